"""A small network, a small dataset, and a trainer for both."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape
from ddpmkit.data.images import Batch, ImageSource
from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit.plugin import ComponentConfig
from ddpmkit.recipe import TrainSection
from ddpmkit.runtime import Runtime
from ddpmkit.training.objective import Objective
from ddpmkit.training.trainer import StepOutcome, Trainer
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule
from ddpmkit_plugins.l2.loss import L2Loss

SHAPE = ImageShape(3, 8, 8)


class NoiseDataset:
    """Images of random pixels."""

    class_names = ("a",)
    fingerprint = "noise"

    def __init__(self, length: int) -> None:
        self.pixels = np.random.default_rng(0).integers(0, 256, (length, *SHAPE)).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.asarray(self.pixels[indices])

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.zeros(len(indices), dtype=np.int64)


class SmallNetwork(nn.Module):
    """Convolutions, one wide enough for Muon, dropout, and optionally batch normalization."""

    def __init__(self, dropout: float, channels: int, batch_norm: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels) if batch_norm else nn.Identity()
        self.conv = nn.Conv2d(channels, 3, 3, padding=1)
        self.inside = nn.Conv2d(8, 8, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        wide = self.inside(self.conv(self.norm(x)).repeat(1, 3, 1, 1)[:, :8])
        out: Tensor = self.out(self.dropout(wide)) * (1 + t[:, None, None, None] / 50)
        return out


@pytest.fixture
def noise_images() -> Callable[..., ImageSource]:
    """A source of random images."""

    def source(length: int = 10, seed: int = 0, flip: bool = False) -> ImageSource:
        return ImageSource(NoiseDataset(length), SHAPE, seed=seed, flip=flip)

    return source


@pytest.fixture
def make_trainer(noise_images: Callable[..., ImageSource]) -> Callable[..., Trainer]:
    """A trainer of the small network; keyword arguments are keys of `[train]`, or as named here."""

    def make(
        offset_noise: float = 0.0,
        dropout: float = 0.0,
        self_conditioning: bool = False,
        batch_norm: bool = False,
        **settings: object,
    ) -> Trainer:
        torch.manual_seed(0)
        schedule = CosineSchedule(CosineConfig(), timesteps=50)
        process = GaussianDiffusion.from_schedule(schedule, self_conditioning=self_conditioning)
        loss = L2Loss(ComponentConfig(), prediction="epsilon")
        objective = Objective(process, loss, Runtime(torch.device("cpu"), torch.float32), offset_noise)
        recipe = TrainSection(**{"batch_size": 8, "seed": 3, **settings})  # type: ignore[arg-type]
        network = SmallNetwork(dropout, 6 if self_conditioning else 3, batch_norm)
        return Trainer(network, objective, noise_images(seed=3, flip=True), recipe)

    return make


@pytest.fixture
def take_step() -> Callable[[Trainer], StepOutcome]:
    """Take a step of a trainer and wait for its outcome."""

    def take(trainer: Trainer) -> StepOutcome:
        trainer.train_step()
        outcome = trainer.settle()
        assert outcome is not None
        return outcome

    return take


@pytest.fixture
def spoil_batches() -> Callable[..., None]:
    """Make the images of some batches of a trainer infinite, given the indices of the batches."""

    def spoil(trainer: Trainer, *spoiled: int) -> None:
        batches = trainer._batches
        load, batch = batches.load, batches.batch
        loaded = [0]

        def watched_load(index: int) -> None:
            loaded[0] = index
            load(index)

        def spoiled_batch(index: Tensor, positions: range) -> Batch:
            found = batch(index, positions)
            return found._replace(x0=found.x0 * math.inf) if loaded[0] in spoiled else found

        batches.load, batches.batch = watched_load, spoiled_batch  # type: ignore[method-assign]

    return spoil


@pytest.fixture
def flat_weights() -> Callable[[nn.Module], Tensor]:
    """All parameters of a network, as one vector."""
    return lambda network: torch.cat([weight.detach().flatten() for weight in network.parameters()])
