import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpmkit.errors import InputError
from ddpmkit.training.state import average_tensors, first_not_finite, load_weights, part_names, restore, state_tensors
from ddpmkit.training.trainer import StepOutcome, Trainer

MakeTrainer = Callable[..., Trainer]
TakeStep = Callable[[Trainer], StepOutcome]
Parts = dict[str, dict[str, Tensor]]


def saved(item: Trainer) -> Parts:
    return {
        part: {key: value.clone() for key, value in tensors.items()} for part, tensors in state_tensors(item).items()
    }


@pytest.mark.parametrize(("kind", "self_conditioning"), [("adam", False), ("muon", True)])
def test_a_restored_trainer_continues_bit_for_bit(
    make_trainer: MakeTrainer, take_step: TakeStep, kind: str, self_conditioning: bool
) -> None:
    keys: dict[str, Any] = {"optimizer": kind, "dropout": 0.2, "ema_decays": (0.9,), "ema_sigma_rels": (0.05, 0.1)}
    keys["self_conditioning"] = self_conditioning
    straight = make_trainer(**keys)
    outcomes = [take_step(straight) for _ in range(7)]
    stopped = make_trainer(**keys)
    for _ in range(4):
        stopped.train_step()
    stopped.settle()
    resumed = make_trainer(**keys)
    torch.randn(3)  # torch's own generator has another state by now
    nn.init.zeros_(resumed.network.conv.weight)  # type: ignore[arg-type, union-attr]
    restore(resumed, 4, saved(stopped))
    assert [take_step(resumed) for _ in range(3)] == outcomes[4:]
    expected, actual = state_tensors(straight), state_tensors(resumed)
    assert set(expected) == set(actual) == {*part_names(straight)}
    averages = {"ema", "ema-decay-0.9", "ema-sigma_rel-0.05", "ema-sigma_rel-0.1"}
    assert set(actual) == {"model", "optimizer", "progress", *averages}
    for part in expected:
        assert expected[part].keys() == actual[part].keys()
        assert all(torch.equal(expected[part][key], actual[part][key]) for key in expected[part])


def test_counters_are_restored(make_trainer: MakeTrainer, spoil_batches: Callable[..., None]) -> None:
    item = make_trainer(on_nonfinite="skip")
    spoil_batches(item, 1)
    item.train_step()
    item.train_step()
    item.settle()
    item.rollbacks = 3
    restored = make_trainer()
    restore(restored, 2, saved(item))
    assert (restored.step, restored.skipped, restored.rollbacks) == (2, 1, 3)


def test_an_average_that_is_new_in_the_recipe_starts_at_the_last_weights(make_trainer: MakeTrainer) -> None:
    item = make_trainer(ema_decay=0)
    item.train_step()
    restored = make_trainer()
    restore(restored, 1, {**saved(item), "ema": {}})
    for average, weight in zip(restored.averaged_network().parameters(), item.network.parameters(), strict=True):
        assert torch.equal(average, weight)


def test_averages_of_one_kind_can_be_selected(make_trainer: MakeTrainer) -> None:
    item = make_trainer(ema_decays=(0.9,), ema_sigma_rels=(0.05, 0.1))
    assert set(average_tensors(item, ["sigma_rel"])) == {"ema-sigma_rel-0.05", "ema-sigma_rel-0.1"}


@pytest.mark.parametrize(("part", "key"), [("progress", "skipped"), ("optimizer", "conv.weight/exp_avg")])
def test_a_state_with_a_missing_tensor_is_rejected(make_trainer: MakeTrainer, part: str, key: str) -> None:
    item = make_trainer()
    item.train_step()
    parts = saved(item)
    del parts[part][key]
    with pytest.raises(InputError, match=f"the {part} part .* does not fit .* {key} has shape none: it is missing"):
        restore(make_trainer(), 1, parts)


def test_weights_of_another_network_are_rejected() -> None:
    with pytest.raises(InputError, match="the first of 1 differences: size mismatch for weight"):
        load_weights(nn.Linear(2, 2), nn.Linear(3, 2).state_dict())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_tensor_with_nan_or_infinity_is_named(value: float) -> None:
    tensors = {"count": torch.tensor(3), "a": torch.ones(4), "b": torch.ones(4), "c": torch.full((2,), math.nan)}
    tensors["b"][2] = value
    assert first_not_finite(tensors) == "b"
    assert first_not_finite({name: tensors[name] for name in ("count", "a")}) is None
    assert first_not_finite({"count": torch.tensor(3)}) is None
    assert first_not_finite({"empty": torch.ones(0, 3), **tensors}) == "b"
