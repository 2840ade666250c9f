import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape
from ddpmkit.data.images import ImageSource
from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit.plugin import ComponentConfig
from ddpmkit.randomness import Purpose, uniform_integers
from ddpmkit.recipe import TrainSection
from ddpmkit.runtime import Runtime
from ddpmkit.training.state import restore, state_tensors
from ddpmkit.training.trainer import NotFinite, Trainer
from ddpmkit.training.validation import validation_loss
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule
from ddpmkit_plugins.l2.loss import L2Loss

CPU = Runtime(torch.device("cpu"), torch.float32)
SHAPE = ImageShape(3, 8, 8)


class Noise:
    class_names = ("a",)
    fingerprint = "noise"

    def __init__(self, length: int = 10) -> None:
        self.pixels = np.random.default_rng(0).integers(0, 256, (length, *SHAPE)).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.asarray(self.pixels[indices])

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.zeros(len(indices), dtype=np.int64)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        out: Tensor = self.conv(x) * (1 + t[:, None, None, None] / 50)
        return out


def trainer(**settings: object) -> Trainer:
    torch.manual_seed(0)
    process = GaussianDiffusion.from_schedule(CosineSchedule(CosineConfig(), timesteps=50))
    images = ImageSource(Noise(), SHAPE, seed=3, flip=True)
    loss = L2Loss(ComponentConfig(), prediction="epsilon")
    defaults: dict[str, object] = {"batch_size": 8, "seed": 3}
    return Trainer(Tiny(), process, loss, images, TrainSection(**{**defaults, **settings}), CPU)  # type: ignore[arg-type]


def weights(item: Trainer) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in item.network.parameters()])


def test_parts_of_a_batch_add_up_to_the_batch() -> None:
    whole, parts = trainer(), trainer(accumulate=4)
    for _ in range(5):
        first, second = whole.train_step(), parts.train_step()
        assert first.loss == pytest.approx(second.loss, rel=1e-5)
        assert first.gradient_norm == pytest.approx(second.gradient_norm, rel=1e-4)
    torch.testing.assert_close(weights(whole), weights(parts), rtol=1e-4, atol=1e-6)


def test_a_step_is_adam_on_the_clipped_gradient() -> None:
    item = trainer(gradient_clip=0.01, learning_rate=0.1)
    before = weights(item)
    outcome = item.train_step()
    assert outcome.gradient_norm > 0.01
    gradient = torch.cat([weight.grad.flatten() for weight in item.network.parameters()])  # type: ignore[union-attr]
    assert gradient.norm().item() == pytest.approx(0.01, rel=1e-3)
    # Kingma & Ba (2015), algorithm 1 at t = 1: both bias corrections cancel the decay rates.
    torch.testing.assert_close(weights(item), before - 0.1 * gradient / (gradient.abs() + 1e-8))


def test_zero_clips_nothing_but_the_norm_is_still_told() -> None:
    item = trainer(gradient_clip=0.0)
    told = item.train_step().gradient_norm
    gradient = torch.cat([weight.grad.flatten() for weight in item.network.parameters()])  # type: ignore[union-attr]
    assert gradient.norm().item() == pytest.approx(told, rel=1e-5)


def test_the_learning_rate_grows_to_its_value_and_stays() -> None:
    item = trainer(warmup_steps=4, learning_rate=0.8)
    assert [item.train_step().learning_rate for _ in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_a_restored_trainer_goes_on_bit_for_bit() -> None:
    straight = trainer()
    outcomes = [straight.train_step() for _ in range(7)]
    halted = trainer()
    for _ in range(4):
        halted.train_step()
    saved = {
        part: {key: value.clone() for key, value in tensors.items()} for part, tensors in state_tensors(halted).items()
    }
    resumed = trainer(seed=3)
    nn.init.zeros_(resumed.network.conv.weight)  # type: ignore[arg-type, union-attr]
    restore(resumed, 4, saved)
    assert [resumed.train_step() for _ in range(3)] == outcomes[4:]
    expected, actual = state_tensors(straight), state_tensors(resumed)
    assert set(expected) == set(actual) == {"model", "ema", "optimizer", "progress"}
    for part in expected:
        assert expected[part].keys() == actual[part].keys()
        assert all(torch.equal(expected[part][key], actual[part][key]) for key in expected[part])


def test_a_loss_that_is_not_finite_never_reaches_the_weights() -> None:
    item = trainer()
    item.train_step()
    before = weights(item)
    item.loss = lambda prediction, target, alpha_bar: prediction.flatten(1).sum(1) * math.inf
    sums = item.by_quarter.sums.clone()
    with pytest.raises(NotFinite) as caught:
        item.train_step()
    assert torch.equal(weights(item), before)
    assert torch.equal(item.by_quarter.sums, sums)
    assert item.step == 1
    facts = caught.value.facts
    assert (facts["step"], facts["loss"], len(facts["losses"])) == (2, "inf", 8)
    assert facts["images"] == item.images.batch(1, range(8), 8).picture.tolist()
    assert facts["timesteps"] == uniform_integers(3, Purpose.TIMESTEP, 1, range(8), 50).tolist()


def test_a_detour_sees_other_batches_and_is_as_repeatable() -> None:
    items = [trainer() for _ in range(3)]
    items[1].detours = items[2].detours = 1
    road, detour, again = (item.train_step().loss for item in items)
    assert road != detour
    assert detour == again


def test_the_validation_loss_is_the_same_for_every_seed_and_batch_size() -> None:
    item = trainer()
    values = {
        validation_loss(item.network, item.process, item.loss, ImageSource(Noise(), SHAPE, seed=seed), CPU, batch_size)
        for seed, batch_size in [(0, 64), (7, 64), (7, 3)]
    }
    assert max(values) == pytest.approx(min(values), rel=1e-6)  # type: ignore[type-var]


def test_there_is_no_validation_loss_without_held_out_images() -> None:
    item = trainer()
    assert validation_loss(item.network, item.process, item.loss, ImageSource(Noise(0), SHAPE), CPU) is None
