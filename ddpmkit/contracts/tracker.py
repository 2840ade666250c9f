"""The contract of a tracker, and the events that it receives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from ddpmkit.contracts.metric import Better

__all__ = ["Picture", "RunEnded", "RunStarted", "Scores", "StepRecord", "Tracker"]


class Tracker(Protocol):
    """Callbacks for the events of a run. Built with `run_folder: Path`, a folder that it may write to.

    A tracker is built and called in its own thread, which is not the main thread, and training does not wait for it. If
    it raises, the error is reported and the tracker receives no more events. If one event takes more than two minutes,
    the tracker is abandoned. The end of a run waits at most two minutes for all trackers, so everything must be saved
    when `run_ended` returns.
    """

    def run_started(self, event: RunStarted) -> None:
        """A run starts or resumes."""
        ...

    def step(self, event: StepRecord) -> None:
        """A training record, every `train.log_every` steps."""
        ...

    def picture(self, event: Picture) -> None:
        """An image file was written."""
        ...

    def scores(self, event: Scores) -> None:
        """An evaluation is complete. After a resume, the scores of the resumed step are sent again."""
        ...

    def run_ended(self, event: RunEnded) -> None:
        """The run is over. This is the last event."""
        ...


@dataclass(frozen=True)
class RunStarted:
    """A run starts or resumes."""

    name: str
    """The name of the recipe."""
    folder: Path
    """The run folder."""
    recipe: Mapping[str, Any]
    """The resolved recipe, as plain TOML data."""
    parameters: int
    """The number of trainable parameters of the network."""
    first_step: int
    """0 for a new run; the step of the checkpoint for a resumed run."""
    last_step: int
    """The step at which the run is complete."""
    evaluations: Mapping[str, int] = field(default_factory=dict)
    """The interval of each metric in steps, by its name in `Scores.metric`. 0 means only at the end of the run."""
    skipped_metrics: tuple[str, ...] = ()
    """Metrics of the recipe that are not available on this machine, and that the user chose to skip."""


@dataclass(frozen=True)
class StepRecord:
    """A training record after an optimizer step."""

    step: int
    """Counted from 1."""
    loss: float
    """The mean loss over the batch of this step."""
    loss_by_quarter: tuple[float | None, ...]
    """Mean loss since the last record, for t in each quarter of the timesteps. None for a quarter without images."""
    gradient_norm: float
    """The norm over all weights, before clipping."""
    learning_rate: float
    """The learning rate of this step."""
    images_per_second: float
    """Training speed since the last record."""
    validation_loss: float | None = None
    """The loss on the validation images; None at steps without a validation."""


@dataclass(frozen=True)
class Picture:
    """An image file in the run folder."""

    step: int
    """The step of the weights that generated it."""
    name: Literal["samples", "forward", "reverse"]
    """A grid of samples, or frames of the forward or the reverse process."""
    path: Path
    """The path of the file."""


@dataclass(frozen=True)
class Scores:
    """The result of an evaluation."""

    step: int
    """The step of the weights that were evaluated."""
    metric: str
    """The metric's name in the recipe. If a recipe uses a metric several times, the keys that differ follow."""
    protocol: str
    """`MetricProtocol.name`."""
    comparable: bool
    """`MetricProtocol.comparable`."""
    num_samples: int
    """The number of generated images."""
    num_reference: int
    """The number of real images."""
    values: Mapping[str, float]
    """The scores by name."""
    floor: Mapping[str, float]
    """The scores of one half of the real images against the other half; empty if there are too few images."""
    better: Mapping[str, Better]
    """For each score, whether lower or higher is better."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """`MetricProtocol.facts`, and what the floor was measured on."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """Values that are NaN, infinite or not numeric, as text. They are shown, but never ranked or plotted."""
    origin: Literal["run", "request"] = "run"
    """`run`: the recipe requires the evaluation. `request`: a user ran `ddpmkit evaluate`."""
    identity: Mapping[str, Any] = field(default_factory=dict)
    """Everything that the scores depend on besides the weights, as plain data. Empty in logs of earlier versions."""


@dataclass(frozen=True)
class RunEnded:
    """A run is over."""

    step: int
    """The last completed step."""
    status: Literal["finished", "stopped", "failed"]
    """`stopped`: by the user, before the last step."""
    problems: tuple[str, ...] = ()
    """What could not be generated or evaluated, although the run continued."""
