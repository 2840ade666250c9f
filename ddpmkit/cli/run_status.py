"""The current state of a run, from its events: what a display or a summary shows."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta

from ddpmkit.contracts import RunEnded, RunStarted, Scores, StepRecord
from ddpmkit.run_folder import RunFolder
from ddpmkit.score_log import latest_scores, made_by_run, read_scores

__all__ = ["RunStatus", "format_duration", "score_text"]


class RunStatus:
    """Collects the events of a run. Nothing is known until `started` is set."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self._clock = clock
        self._began = 0.0
        self.started: RunStarted | None = None
        self.record: StepRecord | None = None
        self.validation_loss: float | None = None
        self.last_scores: Mapping[str, str] = {}
        """The latest scores of each metric, formatted; for a resumed run, those in its log.

        Replaced and never modified: a display may read it in another thread.
        """
        self.ended: RunEnded | None = None

    def begin(self, event: RunStarted) -> None:
        """The run starts or resumes."""
        self.started, self._began = event, self._clock()
        scores = latest_scores(made_by_run(read_scores(RunFolder(event.folder).log)))
        self.last_scores = {name: score_text(each) for name, each in scores.items()}

    def advance(self, event: StepRecord) -> None:
        """Training steps were taken."""
        self.record = event
        if event.validation_loss is not None:
            self.validation_loss = event.validation_loss

    def score(self, event: Scores) -> None:
        """A metric was evaluated."""
        self.last_scores = {**self.last_scores, event.metric: score_text(event)}

    @property
    def step(self) -> int:
        """The latest known step."""
        if self.record is not None:
            return self.record.step
        return self.started.first_step if self.started else 0

    @property
    def complete_already(self) -> bool:
        """Whether the run had no step left when it was started."""
        return self.started is not None and self.started.first_step >= self.started.last_step

    @property
    def seconds(self) -> float:
        """Since the run was started or resumed in this process."""
        return self._clock() - self._began

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far, including samples and evaluations; None before the first record."""
        if self.started is None or self.record is None:
            return None
        done = self.record.step - self.started.first_step
        return self.seconds / done * (self.started.last_step - self.record.step)

    @property
    def steps_per_second(self) -> float | None:
        """Training steps only, without samples and evaluations."""
        if self.started is None or self.record is None:
            return None
        return self.record.images_per_second / float(self.started.recipe["train"]["batch_size"])

    def upcoming(self) -> Iterator[tuple[str, int]]:
        """Yield the next samples and the next evaluation of each metric, each with the step after which it is due."""
        if self.started is None or self.step >= self.started.last_step:
            return
        recipe = self.started.recipe
        yield "samples", self._next(recipe["train"]["sample_every"])
        for metric, every in self.started.evaluations.items():
            yield metric, self._next(every)

    def _next(self, every: int) -> int:
        assert self.started is not None
        last = self.started.last_step
        return min(last, (self.step // every + 1) * every) if every else last


def score_text(scores: Scores) -> str:
    """Scores in one line."""
    values = [f"{name} {value:.4g}{_floor(scores, name)}" for name, value in scores.values.items()]
    values += [f"{name} {text}" for name, text in scores.unusable.items()]
    protocol = scores.protocol if scores.comparable else f"{scores.protocol}, not comparable"
    return f"{', '.join(values)} at step {scores.step:,} · {scores.num_samples:,} samples, {protocol}"


def format_duration(seconds: float) -> str:
    """Hours, minutes and seconds, as in 0:12:03."""
    return str(timedelta(seconds=round(seconds)))


def _floor(scores: Scores, name: str) -> str:
    return f" (floor {scores.floor[name]:.4g})" if name in scores.floor else ""
