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

    It is built and told in a thread of its own, which is not the main one; training does not wait for it. One that
    raises is reported and switched off, one that takes longer than two minutes for an event is abandoned. The end of a
    run waits two minutes at most for all trackers, so what is to be kept must be kept when `run_ended` returns.
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
        """An evaluation came to its end; that of the step that a run resumes from is told again after `run_started`."""
        ...

    def run_ended(self, event: RunEnded) -> None:
        """Nothing more will come."""
        ...


@dataclass(frozen=True)
class RunStarted:
    """A run begins, or goes on."""

    name: str
    """The recipe's."""
    folder: Path
    """The folder of the run."""
    recipe: Mapping[str, Any]
    """The resolved recipe, as plain TOML data."""
    parameters: int
    """How many numbers the network learns."""
    first_step: int
    """0 for a new run; the step of the checkpoint for one that goes on."""
    last_step: int
    """The step at which the run is complete."""
    evaluations: Mapping[str, int] = field(default_factory=dict)
    """The metrics that the run evaluates, by the name in their scores, and every how many steps; 0: only at the end."""
    skipped_metrics: tuple[str, ...] = ()
    """Metrics of the recipe that are not available here, and that a person chose to skip."""


@dataclass(frozen=True)
class StepRecord:
    """What is known after an optimizer step."""

    step: int
    """Counted from 1."""
    loss: float
    """The mean over the global batch of this step."""
    loss_by_quarter: tuple[float | None, ...]
    """Mean loss of the samples whose t fell in each quarter of the timesteps, since the last record; None: none did."""
    gradient_norm: float
    """Over all weights, before clipping."""
    learning_rate: float
    """Of this step."""
    images_per_second: float
    """Of training, since the last record."""
    validation_loss: float | None = None
    """On held-out images; None at steps that do not measure it."""


@dataclass(frozen=True)
class Picture:
    """A picture written to the run folder."""

    step: int
    """The step of the weights that drew it."""
    name: Literal["samples", "forward", "reverse"]
    """A grid of samples, or frames of the forward or the reverse process."""
    path: Path
    """The file."""


@dataclass(frozen=True)
class Scores:
    """One evaluation's outcome."""

    step: int
    """The step of the weights that were scored."""
    metric: str
    """As a recipe names it; if it names several of one `use`, with the keys in which they differ."""
    protocol: str
    """The name of the metric's rules."""
    comparable: bool
    """As the rules say."""
    num_samples: int
    """Generated images."""
    num_reference: int
    """Real images."""
    values: Mapping[str, float]
    """The scores by name."""
    floor: Mapping[str, float]
    """The same scores between two halves of the real images; empty where those are too few."""
    better: Mapping[str, Better]
    """Which way each score improves."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Those of the rules, and what the floor was measured on."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """Scores that came out as NaN, infinity or no number at all, as text. They are shown, and never ranked or drawn."""
    origin: Literal["run", "request"] = "run"
    """`run`: the run made it because its recipe says so. `request`: a person asked for it, with `ddpmkit evaluate`."""
    identity: Mapping[str, Any] = field(default_factory=dict)
    """All that the scores depend on besides the weights, as plain data; empty in a line of an earlier version."""


@dataclass(frozen=True)
class RunEnded:
    """A run is over."""

    step: int
    """The last that was done."""
    status: Literal["finished", "stopped", "failed"]
    """`stopped` by the user, before its last step."""
    problems: tuple[str, ...] = ()
    """What could not be made on the way (a score, a picture), though the run went on."""
