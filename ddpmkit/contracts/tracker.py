"""The contract of a tracker, and the events. It does not know what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from ddpmkit.contracts.metric import Better

__all__ = ["Picture", "RunEnded", "RunStarted", "Scores", "StepRecord", "Tracker"]


class Tracker(Protocol):
    """Someone who is told. Built with `run_folder: Path`, where it may write.

    One that raises is reported and switched off; the run goes on.
    """

    def run_started(self, event: RunStarted) -> None:
        """A run begins, or goes on."""
        ...

    def step(self, event: StepRecord) -> None:
        """A record of training, every `train.log_every` steps."""
        ...

    def picture(self, event: Picture) -> None:
        """A picture was written."""
        ...

    def scores(self, event: Scores) -> None:
        """An evaluation came to its end."""
        ...

    def run_ended(self, event: RunEnded) -> None:
        """Nothing more will come."""
        ...


@dataclass(frozen=True)
class RunStarted:
    """A run begins, or goes on."""

    name: str
    folder: Path
    recipe: Mapping[str, Any]
    """The resolved recipe, as plain TOML data."""
    parameters: int
    first_step: int
    """0 for a new run; the step of the checkpoint for one that goes on."""
    last_step: int


@dataclass(frozen=True)
class StepRecord:
    """What is known after optimizer step `step` (counted from 1)."""

    step: int
    loss: float
    loss_by_quarter: tuple[float | None, ...]
    """Mean loss of the samples whose t fell in each quarter of the timesteps, since the last record; None: none did."""
    gradient_norm: float
    learning_rate: float
    images_per_second: float
    validation_loss: float | None = None


@dataclass(frozen=True)
class Picture:
    """A picture written to the run folder."""

    step: int
    name: Literal["samples", "forward", "reverse"]
    path: Path


@dataclass(frozen=True)
class Scores:
    """One evaluation's outcome; `floor` is the same metric between two halves of the real images."""

    step: int
    metric: str
    protocol: str
    comparable: bool
    num_samples: int
    num_reference: int
    values: Mapping[str, float]
    floor: Mapping[str, float]
    better: Mapping[str, Better]
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunEnded:
    """A run is over: finished, stopped (by the user), or failed."""

    step: int
    status: Literal["finished", "stopped", "failed"]
    problems: tuple[str, ...] = ()
    """What could not be made on the way (a score, a picture), though the run went on."""
