"""What a tracker must do."""

import tempfile
from pathlib import Path
from typing import Literal, cast

import torch

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord, Tracker
from ddpmkit.sampling.pictures import grid, save_png
from ddpmkit.testing.checks import Checks, Subject

__all__ = ["checks"]


def checks() -> Checks:
    """Id, question, advice, and the function that asks."""
    yield "events", "does it survive every event of a run?", "Answer each of them, if only by doing nothing.", _events
    yield "resume", "can a run be gone on with?", "Open again what is in the run folder.", _resume


def _run(subject: Subject, folder: Path, first_step: int, status: Literal["finished", "stopped", "failed"]) -> None:
    tracker = cast(Tracker, subject.build(run_folder=folder))
    last = first_step + 2
    tracker.run_started(RunStarted("conformance", folder, {"train": {"steps": 4}}, 10, first_step, 4))
    tracker.step(StepRecord(last - 1, 0.5, (0.5, None, None, None), 1.0, 1e-3, 100.0))
    tracker.step(StepRecord(last, 0.4, (0.4, 0.3, 0.2, 0.1), 1.0, 1e-3, 100.0, 0.45))
    path = save_png(grid(torch.zeros((4, 3, 8, 8), dtype=torch.uint8)), folder / "samples.png")
    for name in ("samples", "forward", "reverse"):
        tracker.picture(Picture(last, name, path))
    tracker.scores(Scores(last, "metric", "standard", True, 10, 10, {"fid": 3.0}, {"fid": 1.0}, {"fid": "lower"}))
    tracker.run_ended(RunEnded(last, status))


def _events(subject: Subject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _run(subject, Path(folder), 0, "failed")


def _resume(subject: Subject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _run(subject, Path(folder), 0, "stopped")
        _run(subject, Path(folder), 2, "finished")
