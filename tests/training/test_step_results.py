import math

import pytest
import torch

from ddpmkit.training.step_results import Judgement, NonfiniteGate, StepResult, StepResults

CPU = torch.device("cpu")
FINE, BAD = (1.0, 2.0), (math.nan, 2.0)


def judged(gate: NonfiniteGate, *steps: tuple[float, float]) -> str:
    """A letter for each step with this loss and norm: applied, skipped or refused."""
    found = [gate.judge(torch.tensor(loss), torch.tensor(norm)) for loss, norm in steps]
    return "".join("a" if each.is_applied else "s" if each.is_counted else "r" for each in found)


@pytest.mark.parametrize("bad", [(math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0), (1.0, -math.inf)])
def test_nothing_is_applied_after_a_step_that_is_not_finite(bad: tuple[float, float]) -> None:
    gate = NonfiniteGate(0, CPU)
    assert judged(gate, FINE, bad, FINE, bad, FINE) == "arrrr"
    gate.open(0)
    assert judged(gate, FINE) == "a"


def test_at_most_this_many_steps_in_a_row_are_skipped() -> None:
    gate = NonfiniteGate(2, CPU)
    assert judged(gate, BAD, BAD, FINE, BAD, FINE, BAD, BAD, BAD, FINE) == "ssasassrr"
    gate.open(1)
    assert judged(gate, BAD, BAD) == "sr"


def test_results_are_read_in_order_and_once() -> None:
    results = StepResults(3, 2, CPU)
    yes, no = torch.tensor(True), torch.tensor(False)
    for number in range(2):
        for step in range(3):
            loss, norm = torch.tensor(float(step + number)), torch.tensor(math.inf)
            results.add(Judgement(no, yes), loss, norm, torch.tensor([0.5, step]))
        found = results.read(2)
        assert found == [
            StepResult(False, True, float(step + number), math.inf, [0.5, float(step)]) for step in range(2)
        ]
