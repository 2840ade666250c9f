import math
from typing import Any

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
from ddpmkit.recipe import TrainSection, WeightsChoice
from ddpmkit.runtime import Runtime
from ddpmkit.training.objective import Objective
from ddpmkit.training.state import part_names, restore, state_tensors
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
    def __init__(self, dropout: float = 0.0, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 3, 3, padding=1)
        self.inside = nn.Conv2d(8, 8, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        wide = self.inside(self.conv(x).repeat(1, 3, 1, 1)[:, :8])
        out: Tensor = self.out(self.dropout(wide)) * (1 + t[:, None, None, None] / 50)
        return out


def trainer(
    offset_noise: float = 0.0, dropout: float = 0.0, self_conditioning: bool = False, **settings: object
) -> Trainer:
    torch.manual_seed(0)
    schedule = CosineSchedule(CosineConfig(), timesteps=50)
    process = GaussianDiffusion.from_schedule(schedule, self_conditioning=self_conditioning)
    images = ImageSource(Noise(), SHAPE, seed=3, flip=True)
    loss = L2Loss(ComponentConfig(), prediction="epsilon")
    defaults: dict[str, object] = {"batch_size": 8, "seed": 3}
    objective = Objective(process, loss, CPU, offset_noise)
    recipe = TrainSection(**{**defaults, **settings})  # type: ignore[arg-type]
    return Trainer(Tiny(dropout, 6 if self_conditioning else 3), objective, images, recipe)


def weights(item: Trainer) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in item.network.parameters()])


@pytest.mark.parametrize("self_conditioning", [False, True])
def test_parts_of_a_batch_add_up_to_the_batch(self_conditioning: bool) -> None:
    whole, parts = (trainer(self_conditioning=self_conditioning, accumulate=parts) for parts in (1, 4))
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


def test_the_learning_rate_decays_to_nothing_at_the_end() -> None:
    rates = {
        decay: trainer(warmup_steps=2, steps=6, learning_rate=0.8, learning_rate_decay=decay).learning_rate_at
        for decay in ("linear", "cosine")
    }
    assert [rates["linear"](step) for step in range(7)] == pytest.approx([0.4, 0.8, 0.8, 0.6, 0.4, 0.2, 0])
    # Loshchilov & Hutter (2017), eq. 5.
    expected = [0.4 * (1 + math.cos(math.pi * (step - 2) / 4)) for step in range(2, 7)]
    assert [rates["cosine"](step) for step in range(2, 7)] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["adam", "adamw", "muon"])
def test_every_optimizer_moves_every_weight(kind: str) -> None:
    item = trainer(optimizer=kind, weight_decay=0.1)
    before = [weight.detach().clone() for weight in item.network.parameters()]
    item.train_step()
    assert not any(torch.equal(*pair) for pair in zip(before, item.network.parameters(), strict=True))


@pytest.mark.parametrize(("kind", "self_conditioning"), [("adam", False), ("muon", True)])
def test_a_restored_trainer_goes_on_bit_for_bit(kind: str, self_conditioning: bool) -> None:
    keys: dict[str, Any] = {"optimizer": kind, "dropout": 0.2, "ema_decays": (0.9,), "ema_sigma_rels": (0.05, 0.1)}
    keys["self_conditioning"] = self_conditioning
    straight = trainer(**keys)
    outcomes = [straight.train_step() for _ in range(7)]
    halted = trainer(**keys)
    for _ in range(4):
        halted.train_step()
    saved = {
        part: {key: value.clone() for key, value in tensors.items()} for part, tensors in state_tensors(halted).items()
    }
    resumed = trainer(**keys)
    torch.randn(3)  # torch's own generator stands elsewhere by now
    nn.init.zeros_(resumed.network.conv.weight)  # type: ignore[arg-type, union-attr]
    restore(resumed, 4, saved)
    assert [resumed.train_step() for _ in range(3)] == outcomes[4:]
    expected, actual = state_tensors(straight), state_tensors(resumed)
    assert set(expected) == set(actual) == {*part_names(straight)}
    averages = {"ema", "ema-decay-0.9", "ema-sigma_rel-0.05", "ema-sigma_rel-0.1"}
    assert set(actual) == {"model", "optimizer", "progress", *averages}
    for part in expected:
        assert expected[part].keys() == actual[part].keys()
        assert all(torch.equal(expected[part][key], actual[part][key]) for key in expected[part])


def test_an_average_whose_profile_spans_all_steps_counts_one_that_was_passed_over() -> None:
    item = trainer(ema_sigma_rels=(0.1,), learning_rate=0.1)
    seen = []
    for step in range(1, 6):
        item.skip_step() if step == 4 else item.train_step()
        seen.append(weights(item))
    share = [((step / 5) ** 7.9372 - ((step - 1) / 5) ** 7.9372) for step in range(1, 6)]
    expected = sum(part * then for part, then in zip(share, seen, strict=True))
    average = item.averaged(WeightsChoice("sigma_rel", 0.1))
    found = torch.cat([weight.flatten() for weight in average.parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_not_finite_never_reaches_the_weights() -> None:
    item = trainer()
    item.train_step()
    before = weights(item)
    item.objective = Objective(
        item.objective.process, lambda prediction, *_: prediction.flatten(1).sum(1) * math.inf, CPU
    )
    sums = item.loss_by_quarter.sums.clone()
    with pytest.raises(NotFinite) as caught:
        item.train_step()
    assert torch.equal(weights(item), before)
    assert torch.equal(item.loss_by_quarter.sums, sums)
    assert item.step == 1
    facts = caught.value.facts
    assert (facts["step"], facts["loss"], len(facts["losses"])) == (2, "inf", 8)
    assert facts["images"] == item.images.batch(1, range(8), 8).picture.tolist()
    assert facts["timesteps"] == uniform_integers(3, Purpose.TIMESTEP, 1, range(8), 50).tolist()


def test_offset_noise_of_the_recipe_is_used() -> None:
    assert trainer(offset_noise=0.5).train_step() != trainer().train_step()


def test_a_detour_sees_other_batches_and_is_as_repeatable() -> None:
    items = [trainer() for _ in range(3)]
    items[1].rollbacks = items[2].rollbacks = 1
    road, detour, again = (item.train_step().loss for item in items)
    assert road != detour
    assert detour == again


def test_the_validation_loss_is_the_same_for_every_seed_and_batch_size() -> None:
    item = trainer()
    values = {
        validation_loss(item.network, item.objective, ImageSource(Noise(), SHAPE, seed=seed), batch_size)
        for seed, batch_size in [(0, 64), (7, 64), (7, 3)]
    }
    assert max(values) == pytest.approx(min(values), rel=1e-6)  # type: ignore[type-var]


def test_there_is_no_validation_loss_without_held_out_images() -> None:
    item = trainer()
    assert validation_loss(item.network, item.objective, ImageSource(Noise(0), SHAPE)) is None
