"""The checks of a tracker."""

import contextlib
import copy
import functools
import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import torch

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord, Tracker
from ddpmkit.errors import error_text
from ddpmkit.interrupts import is_interrupt
from ddpmkit.sampling.image_grid import grid, save_png
from ddpmkit.testing.checks import Rule
from ddpmkit.testing.failures import ConformanceError, NotChecked, require
from ddpmkit.testing.subject import Results, Subject
from ddpmkit.worker import Worker

__all__ = ["RULES", "use"]

Event = RunStarted | StepRecord | Picture | Scores | RunEnded
Status = Literal["finished", "stopped", "failed"]

_TIMEOUT = 30.0
"""Seconds that one event may take."""
_METHODS = {RunStarted: "run_started", StepRecord: "step", Picture: "picture", Scores: "scores", RunEnded: "run_ended"}


def use(subject: Subject) -> Results:
    """Send the events of a run."""
    with tempfile.TemporaryDirectory() as folder:
        _send(subject, Path(folder), _events(Path(folder), 0, "finished"))
    return {}


def _started(folder: Path, first_step: int) -> RunStarted:
    recipe = {"name": "conformance", "train": {"steps": 4, "seed": 0}, "metric": [{"use": "clean-fid", "every": 2}]}
    return RunStarted("conformance", folder, recipe, 10, first_step, 4)


def _record(step: int) -> StepRecord:
    return StepRecord(step, 0.5, (0.4, 0.3, 0.2, 0.1), 1.0, 1e-3, 100.0, 0.45)


def _scores(step: int) -> Scores:
    values, floor = {"fid": 3.0}, {"fid": 1.0}
    return Scores(step, "metric", "standard", True, 10, 10, values, floor, {"fid": "lower"}, {"resize": "none"})


def _events(folder: Path, first_step: int, status: Status) -> Iterator[Event]:
    """The events of a run of two steps."""
    yield _started(folder, first_step)
    last = first_step + 2
    yield from (_record(last - 1), _record(last))
    path = save_png(grid(torch.zeros((4, 3, 8, 8), dtype=torch.uint8)), folder / "samples.png")
    for name in ("samples", "forward", "reverse"):
        yield Picture(last, name, path)
    yield _scores(last)
    problems = ("sampling failed",) if status == "failed" else ()
    yield RunEnded(last, status, problems)


def _send(subject: Subject, folder: Path, events: Iterable[Event]) -> None:
    """Build the tracker and send it the events in another thread, as a run does.

    Raises ConformanceError if the tracker raises, and TimeoutError if it hangs. Both name the event.
    """
    worker = Worker("tracker under test")
    tracker = cast(Tracker, worker.call(lambda: subject.build(run_folder=folder), _TIMEOUT))
    for event in events:
        method = _METHODS[type(event)]
        try:
            worker.call(functools.partial(getattr(tracker, method), event), _TIMEOUT)
        except TimeoutError as error:
            raise TimeoutError(f"{method}({event}): {error}") from error
        except BaseException as error:
            if is_interrupt(error):
                raise
            require(False, f"{method}({event}) raised {error_text(error)}")


def _send_unless_hanging(subject: Subject, folder: Path, events: Iterable[Event]) -> None:
    """`_send`. Raises NotChecked for a tracker that is known to hang, so that only one check waits for it."""
    if isinstance(error := subject.observation.error, TimeoutError):
        raise NotChecked("it hangs when it is used") from error
    _send(subject, folder, events)


def _all_events(subject: Subject) -> None:
    if isinstance(error := subject.observation.error, TimeoutError):
        raise error
    with tempfile.TemporaryDirectory() as folder:
        _send_unless_hanging(subject, Path(folder), _events(Path(folder), 0, "failed"))


def _resume(subject: Subject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        _send_unless_hanging(subject, path, [_started(path, 0), _record(1), _record(2), RunEnded(2, "stopped")])
        _send_unless_hanging(subject, path, [_started(path, 2), _record(3), _record(4), RunEnded(4, "finished")])


def _early_end(subject: Subject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        events: list[Event] = [_started(Path(folder), 0), RunEnded(0, "failed", ("out of memory",))]
        _send_unless_hanging(subject, Path(folder), events)


def _odd_numbers(subject: Subject) -> None:
    unknown = StepRecord(1, math.nan, (None, None, None, None), math.inf, 0.0, 0.0, None)
    scores = replace(_scores(2), values={"fid": math.nan}, floor={}, better={}, facts={}, comparable=False)
    with tempfile.TemporaryDirectory() as folder:
        events = (_started(Path(folder), 0), unknown, replace(unknown, step=2), scores, RunEnded(2, "finished"))
        _send_unless_hanging(subject, Path(folder), events)


def _events_kept(subject: Subject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        events = list(_events(Path(folder), 0, "finished"))
        before = copy.deepcopy(events)
        # A tracker that raises fails another check.
        with contextlib.suppress(ConformanceError):
            _send_unless_hanging(subject, Path(folder), events)
    changed = [_METHODS[type(event)] for event, old in zip(events, before, strict=True) if event != old]
    require(not changed, f"it changed the event of {', '.join(changed)}")
    subject.require_use()


RULES = (
    Rule(
        "tracker.events",
        "every event of a run is accepted",
        "Implement all five methods: run_started, step, picture, scores, run_ended. A method for an event that the "
        "tracker does not use does nothing.",
        _all_events,
    ),
    Rule(
        "tracker.resume",
        "a run can be stopped and resumed in the same folder",
        "A resume builds a new tracker for the same folder, and `first_step` is the step to continue from. Open "
        'existing files with mode "a", and do not require that the folder is empty.',
        _resume,
    ),
    Rule(
        "tracker.early-end",
        "a run that fails before its first step is accepted",
        "run_ended can follow directly after run_started: look for a file, a total or a last record that exists only "
        "after a step.",
        _early_end,
    ),
    Rule(
        "tracker.odd-numbers",
        "missing values, NaN and infinity are accepted",
        "validation_loss and each item of loss_by_quarter can be None. A loss, a gradient norm or a score can be NaN "
        "or infinity. `floor` can lack some of the scores, or be empty.",
        _odd_numbers,
    ),
    Rule(
        "tracker.events-kept",
        "events are not modified",
        "Other trackers receive the same objects. Copy the recipe before you modify it: `copy.deepcopy(event.recipe)`.",
        _events_kept,
    ),
)
