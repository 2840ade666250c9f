"""Errors in building a model name the keys of the recipe."""

from collections.abc import Callable
from typing import Any

import pytest

from ddpmkit.errors import InputError
from ddpmkit.experiment.model import build_model
from ddpmkit.recipe import read_recipe
from ddpmkit_plugins.cosine.schedule import CosineSchedule

Small = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("steps", [-1, 7])
def test_sampling_steps_outside_1_to_t_name_both_keys(small: Small, steps: int) -> None:
    model = build_model(read_recipe(small()))
    with pytest.raises(InputError, match=rf"sampler\.steps = {steps} .* diffusion\.timesteps = 6"):
        model.generator(model.network, steps=steps)


def test_zero_terminal_snr_with_one_timestep_names_both_keys(small: Small) -> None:
    recipe = read_recipe(small(diffusion={"timesteps": 1, "zero_terminal_snr": True, "prediction": "v"}))
    with pytest.raises(InputError, match=r"diffusion\.zero_terminal_snr needs diffusion\.timesteps of 2 or more"):
        build_model(recipe)


def test_a_schedule_that_ends_at_zero_names_the_prediction_to_choose(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = CosineSchedule.alphas_cumprod
    monkeypatch.setattr(CosineSchedule, "alphas_cumprod", lambda schedule: given(schedule) - given(schedule)[-1])
    with pytest.raises(InputError, match="schedule 'cosine' ends at alpha_bar = 0") as caught:
        build_model(read_recipe(small()))
    assert caught.value.remedies[0] == 'set diffusion.prediction = "v" or "x0"'
