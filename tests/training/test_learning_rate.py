import math
from typing import Any

import pytest

from ddpmkit.recipe import TrainSection
from ddpmkit.training.learning_rate import learning_rate_at


def rates(steps: int = 6, **settings: Any) -> list[float]:
    """The learning rates of optimizer steps 1 .. `steps` + 1."""
    section = TrainSection(steps=steps, learning_rate=0.8, **settings)
    return [learning_rate_at(step, section) for step in range(1, steps + 2)]


def test_the_learning_rate_is_constant_without_warm_up_and_decay() -> None:
    assert rates(warmup_steps=0) == [0.8] * 7


def test_the_learning_rate_warms_up_linearly_and_stays() -> None:
    assert rates(warmup_steps=4) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8])


def test_the_learning_rate_decays_linearly_to_0_after_the_last_step() -> None:
    assert rates(warmup_steps=2, learning_rate_decay="linear") == pytest.approx([0.4, 0.8, 0.8, 0.6, 0.4, 0.2, 0])


def test_the_learning_rate_decays_by_a_cosine_to_0_after_the_last_step() -> None:
    # Loshchilov & Hutter (2017), eq. 5.
    expected = [0.4 * (1 + math.cos(math.pi * done / 4)) for done in range(5)]
    assert rates(warmup_steps=2, learning_rate_decay="cosine") == pytest.approx([0.4, 0.8, *expected])
