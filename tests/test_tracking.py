import logging
from pathlib import Path

import pytest

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord
from ddpmkit.tracking import Audience, Quiet


class Recorder(Quiet):
    def __init__(self, *, breaks: bool = False) -> None:
        self.steps: list[int] = []
        self.breaks = breaks

    def step(self, event: StepRecord) -> None:
        self.steps.append(event.step)
        if self.breaks:
            raise OSError("connection lost")


def record(step: int) -> StepRecord:
    return StepRecord(step, 0.5, (0.1, 0.2, None, 0.4), 1.0, 1e-3, 100.0)


def test_one_that_raises_is_named_and_switched_off_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    first, broken, last = Recorder(), Recorder(breaks=True), Recorder()
    audience = Audience([("first", first), ("acme/broken", broken), ("last", last)])
    with caplog.at_level(logging.WARNING):
        for step in (1, 2, 3):
            audience.step(record(step))
    assert (first.steps, broken.steps, last.steps) == ([1, 2, 3], [1], [1, 2, 3])
    assert len(caplog.records) == 1
    assert "acme/broken failed with OSError: connection lost" in caplog.text


def test_every_event_reaches_everyone(tmp_path: Path) -> None:
    told: list[str] = []

    class All:
        def __getattr__(self, name: str) -> object:
            return lambda event: told.append(name)

    audience = Audience([("all", All())])  # type: ignore[list-item]
    audience.run_started(RunStarted("x", tmp_path, {}, 1, 0, 1))
    audience.step(record(1))
    audience.picture(Picture(1, "samples", tmp_path))
    audience.scores(Scores(1, "m", "p", True, 1, 1, {}, {}, {}))
    audience.run_ended(RunEnded(1, "finished"))
    assert told == ["run_started", "step", "picture", "scores", "run_ended"]
