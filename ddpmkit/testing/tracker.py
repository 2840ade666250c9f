"""What a tracker must do."""

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

_PATIENCE = 30.0
"""Seconds that an event of a check may take."""
_METHODS = {RunStarted: "run_started", StepRecord: "step", Picture: "picture", Scores: "scores", RunEnded: "run_ended"}


def use(subject: Subject) -> Results:
    """Tell it of a run."""
    with tempfile.TemporaryDirectory() as folder:
        _tell(subject, Path(folder), _events(Path(folder), 0, "finished"))
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
    """A run of two steps."""
    yield _started(folder, first_step)
    last = first_step + 2
    yield from (_record(last - 1), _record(last))
    path = save_png(grid(torch.zeros((4, 3, 8, 8), dtype=torch.uint8)), folder / "samples.png")
    for name in ("samples", "forward", "reverse"):
        yield Picture(last, name, path)
    yield _scores(last)
    problems = ("sampling failed",) if status == "failed" else ()
    yield RunEnded(last, status, problems)


def _tell(subject: Subject, folder: Path, events: Iterable[Event]) -> None:
    """Raises ConformanceError that names the event which the tracker did not survive, TimeoutError when it hangs.

    As in a run, everything happens in one thread, which is not the main one.
    """
    worker = Worker("tracker under test")
    tracker = cast(Tracker, worker.call(lambda: subject.build(run_folder=folder), _PATIENCE))
    for event in events:
        method = _METHODS[type(event)]
        try:
            worker.call(functools.partial(getattr(tracker, method), event), _PATIENCE)
        except TimeoutError as error:
            raise TimeoutError(f"{method}({event}) gave {error}") from error
        except BaseException as error:
            if is_interrupt(error):
                raise
            require(False, f"{method}({event}) raised {error_text(error)}")


def _ask(subject: Subject, folder: Path, events: Iterable[Event]) -> None:
    """The same for a check. Raises NotChecked for a tracker that is known to hang: once is enough to wait for it."""
    if isinstance(error := subject.observation.error, TimeoutError):
        raise NotChecked("it hangs when it is used") from error
    _tell(subject, folder, events)


def _survives(subject: Subject) -> None:
    if isinstance(error := subject.observation.error, TimeoutError):
        raise error
    with tempfile.TemporaryDirectory() as folder:
        _ask(subject, Path(folder), _events(Path(folder), 0, "failed"))


def _resume(subject: Subject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        _ask(subject, path, [_started(path, 0), _record(1), _record(2), RunEnded(2, "stopped")])
        _ask(subject, path, [_started(path, 2), _record(3), _record(4), RunEnded(4, "finished")])


def _early_end(subject: Subject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _ask(subject, Path(folder), [_started(Path(folder), 0), RunEnded(0, "failed", ("out of memory",))])


def _odd_numbers(subject: Subject) -> None:
    unknown = StepRecord(1, math.nan, (None, None, None, None), math.inf, 0.0, 0.0, None)
    scores = replace(_scores(2), values={"fid": math.nan}, floor={}, better={}, facts={}, comparable=False)
    with tempfile.TemporaryDirectory() as folder:
        events = (_started(Path(folder), 0), unknown, replace(unknown, step=2), scores, RunEnded(2, "finished"))
        _ask(subject, Path(folder), events)


def _events_kept(subject: Subject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        events = list(_events(Path(folder), 0, "finished"))
        before = copy.deepcopy(events)
        # An event that it does not survive is another check's.
        with contextlib.suppress(ConformanceError):
            _ask(subject, Path(folder), events)
    changed = [_METHODS[type(event)] for event, old in zip(events, before, strict=True) if event != old]
    require(not changed, f"changed: the event of {', '.join(changed)}")
    subject.require_use()


RULES = (
    Rule(
        "tracker.events",
        "does it survive every event of a run?",
        "It has a method for each: run_started, step, picture, scores, run_ended. Answer by doing nothing what you do "
        "not keep.",
        _survives,
    ),
    Rule(
        "tracker.resume",
        "can a run be gone on with?",
        "A new tracker is built for the same folder, and `first_step` says where the run goes on: open again what is "
        'there, with mode "a", and do not insist that nothing is.',
        _resume,
    ),
    Rule(
        "tracker.early-end",
        "does it survive a run that fails before its first step?",
        "run_ended may follow run_started at once: look for a file, a total or a last record that is only there after "
        "a step.",
        _early_end,
    ),
    Rule(
        "tracker.odd-numbers",
        "does it survive numbers that are not there, or not finite?",
        "validation_loss and each quarter of loss_by_quarter may be None; a loss, gradient norm or score may be NaN "
        "or infinite; a floor may be missing.",
        _odd_numbers,
    ),
    Rule(
        "tracker.events-kept",
        "does it leave the events as they were?",
        "Other trackers are told the same objects. Copy the recipe before you change it: "
        "`copy.deepcopy(event.recipe)`.",
        _events_kept,
    ),
)
