"""When outputs of a run are due, and what happens if one could not be made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ddpmkit
from ddpmkit.experiment.outputs import is_due

Recipe = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("every", "due"),
    [(0, [10]), (1, list(range(1, 11))), (3, [3, 6, 9, 10]), (5, [5, 10]), (20, [10])],
)
def test_something_is_due_at_its_interval_and_after_the_last_step(every: int, due: list[int]) -> None:
    assert [step for step in range(11) if is_due(every, step, last_step=10)] == due


def test_a_failure_outside_training_is_reported_and_the_next_run_makes_the_output(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError("no font")

    recipe = small(train={"steps": 2})
    with monkeypatch.context() as patch:
        patch.setattr("ddpmkit.experiment.outputs.write_report", fail)
        run = ddpmkit.run(recipe, tmp_path)
    assert run.ended is not None
    assert run.ended.status == "finished"
    assert run.ended.problems == ("writing the report failed: OSError: no font.",)
    assert "writing the report failed: OSError: no font. The run continues." in caplog.text
    assert run.folder.incidents.records("failed")
    assert not run.folder.report.exists()
    again = ddpmkit.run(recipe, tmp_path)
    assert again.ended is not None
    assert again.ended.problems == ()
    assert again.folder.report.exists()
