"""Which held-out images are used, and what their loss does not depend on."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape
from ddpmkit.data.images import ImageSource
from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit.plugin import ComponentConfig
from ddpmkit.runtime import Runtime
from ddpmkit.training.objective import Objective
from ddpmkit.training.trainer import Trainer
from ddpmkit.training.validation import validation_loss
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule
from ddpmkit_plugins.l2.loss import L2Loss

CPU = Runtime(torch.device("cpu"), torch.float32)
SHAPE = ImageShape(3, 8, 8)


class SortedByClass:
    """Each class has one gray level, and its images follow each other, as a folder lists them."""

    fingerprint = "sorted"

    def __init__(self, counts: dict[str, int], levels: dict[str, int]) -> None:
        self.class_names = tuple(sorted(counts))
        self._labels = np.repeat(np.arange(len(counts)), [counts[name] for name in self.class_names]).astype(np.int64)
        self._levels = np.array([levels[name] for name in self.class_names], dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._labels)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        levels = self._levels[self._labels[indices]][:, None, None, None]
        return np.asarray(np.broadcast_to(levels, (len(indices), *SHAPE)).copy())

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(self._labels[indices])


class AlwaysBlack(nn.Module):
    """Predicts a black x0: the squared error is 0 for a black image and 4 for a white one at any noise."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return torch.full_like(x, -1.0)


def loss(counts: dict[str, int], levels: dict[str, int], batch_size: int = 64, seed: int = 0) -> float | None:
    schedule = CosineSchedule(CosineConfig(), timesteps=50)
    process = GaussianDiffusion.from_schedule(schedule, "x0")
    objective = Objective(process, L2Loss(ComponentConfig(), prediction="x0"), CPU)
    images = ImageSource(SortedByClass(counts, levels), SHAPE, seed=seed)
    return validation_loss(AlwaysBlack(), objective, images, batch_size)


@pytest.mark.parametrize("names", [("cat", "dog"), ("dog", "cat")], ids=["black first", "white first"])
def test_every_class_counts_in_proportion_to_its_size(names: tuple[str, str]) -> None:
    black, white = names
    levels = {black: 0, white: 255}
    assert loss({black: 600, white: 600}, levels) == pytest.approx(4 * 600 / 1200)
    assert loss({black: 3000, white: 1000}, levels) == pytest.approx(4 * 1000 / 4000)
    # 512 of these images are used: a share that does not divide is off by one image at most.
    assert loss({black: 700, white: 300}, levels) == pytest.approx(4 * 300 / 1000, abs=4 / 512)


def test_the_subset_is_the_same_for_every_seed_and_batch_size() -> None:
    counts, levels = {"cat": 400, "dog": 301}, {"cat": 0, "dog": 255}
    values = {loss(counts, levels, batch_size, seed) for batch_size, seed in [(64, 0), (64, 7), (17, 7)]}
    assert max(values) == pytest.approx(min(values), rel=1e-6)  # type: ignore[type-var]


def test_all_images_are_used_if_there_are_few() -> None:
    assert loss({"cat": 3, "dog": 1}, {"cat": 0, "dog": 255}) == pytest.approx(1.0)
    assert loss({"cat": 0}, {"cat": 0}) is None


def test_the_loss_is_the_same_for_every_seed_and_batch_size(
    make_trainer: Callable[..., Trainer], noise_images: Callable[..., ImageSource]
) -> None:
    item = make_trainer()
    values = {
        validation_loss(item.network, item.objective, noise_images(seed=seed), batch_size)
        for seed, batch_size in [(0, 64), (7, 64), (7, 3)]
    }
    assert max(values) == pytest.approx(min(values), rel=1e-6)  # type: ignore[type-var]


def test_there_is_no_validation_loss_without_held_out_images(
    make_trainer: Callable[..., Trainer], noise_images: Callable[..., ImageSource]
) -> None:
    item = make_trainer()
    assert validation_loss(item.network, item.objective, noise_images(0)) is None
