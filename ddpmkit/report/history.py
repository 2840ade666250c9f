"""The training records of a run, read once and in little memory: curves, and what the last records say."""

import math
from collections.abc import Mapping
from typing import Any

from ddpmkit.run_log import RunLog

__all__ = ["History", "Series", "read_history"]

QUARTERS = ("first quarter of t", "second", "third", "last")
_MOST_POINTS = 8192
"""Twenty times what a chart draws: more are averaged over equal numbers of neighbours."""
_CURVES = ("loss", "validation_loss", "gradient_norm", "learning_rate", "images_per_second")


class Series:
    """Points (step, value) that come by step. A million of them take no more memory than ten thousand."""

    def __init__(self) -> None:
        self._means: list[tuple[float, float]] = []
        self._each = 1
        self._sum, self._count, self._at = 0.0, 0, 0.0
        self._last: tuple[float, float] | None = None

    def add(self, step: int, value: float) -> None:
        """One more point; a value that is not finite is left out."""
        if not math.isfinite(value):
            return
        if self._last is not None:
            self._at = self._last[0]
            self._sum += self._last[1]
            self._count += 1
            if self._count == self._each:
                self._means.append((self._at, self._sum / self._count))
                self._sum, self._count = 0.0, 0
        self._last = (step, value)
        if len(self._means) == _MOST_POINTS:
            pairs = zip(self._means[::2], self._means[1::2], strict=True)
            self._means = [(step, (first + second) / 2) for (_, first), (step, second) in pairs]
            self._each *= 2

    @property
    def points(self) -> list[tuple[float, float]]:
        """All of them, or means over neighbours; the last point stays as it is."""
        if self._last is None:
            return []
        rest = [(self._at, self._sum / self._count)] if self._count else []
        return [*self._means, *rest, self._last]


class History:
    """What the records of training steps say, record by record."""

    def __init__(self) -> None:
        self.last: Mapping[str, Any] | None = None
        """The last record."""
        self.validation_loss: float | None = None
        """The last one: not every record has it."""
        self.curves = {name: Series() for name in _CURVES}
        self.quarters = [Series() for _ in QUARTERS]
        self._seconds_per_image_of_a_step = 0.0

    @property
    def step(self) -> int:
        """The last step on record; 0 before the first."""
        return int(self.last["step"]) if self.last is not None else 0

    def seconds(self, batch_size: int) -> float:
        """Of training, from the speeds on record, so that pauses, samples and scores do not count."""
        return self._seconds_per_image_of_a_step * batch_size

    def add(self, record: Mapping[str, Any]) -> None:
        """One more record, of the same or a later step."""
        step = record["step"]
        if record["images_per_second"] > 0:
            self._seconds_per_image_of_a_step += (step - self.step) / record["images_per_second"]
        for name, curve in self.curves.items():
            if (value := record[name]) is not None:
                curve.add(step, value)
        for quarter, value in zip(self.quarters, record["loss_by_quarter"], strict=False):
            if value is not None:
                quarter.add(step, value)
        if record["validation_loss"] is not None:
            self.validation_loss = record["validation_loss"]
        self.last = record


def read_history(log: RunLog) -> History:
    """The training records of a log, by step. Raises OSError when it cannot be read."""
    history = History()
    # Of every event, so that a warning names every line that cannot be used.
    for record in log.records():
        if record["event"] != "step":
            continue
        if record["step"] < history.step:
            # Someone edited it: a log that a run writes is in order. Only then all of it is held in memory.
            history = History()
            for each in sorted(log.records("step"), key=lambda each: int(each["step"])):
                history.add(each)
            return history
        history.add(record)
    return history
