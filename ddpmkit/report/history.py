"""The training records of a run: curves and latest values, read in one pass and constant memory."""

import math
from collections.abc import Mapping
from typing import Any

from ddpmkit.run_log import RunLog

__all__ = ["History", "Series", "read_history"]

QUARTERS = ("first quarter of t", "second", "third", "last")
_MOST_POINTS = 8192
"""Twenty times the points of a chart; longer series are averaged over equal numbers of neighbours."""
_CURVES = ("loss", "validation_loss", "gradient_norm", "learning_rate", "images_per_second")


class Series:
    """Points (step, value) in the order of steps, in constant memory."""

    def __init__(self) -> None:
        self._means: list[tuple[float, float]] = []
        self._each = 1
        self._sum, self._count, self._at = 0.0, 0, 0.0
        self._last: tuple[float, float] | None = None

    def add(self, step: int, value: float) -> None:
        """Add a point; a value that is not finite is skipped."""
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
        """All points, or means over neighbours; the last point is kept."""
        if self._last is None:
            return []
        incomplete = [(self._at, self._sum / self._count)] if self._count else []
        return [*self._means, *incomplete, self._last]


class History:
    """Collects training records."""

    def __init__(self) -> None:
        self.last: Mapping[str, Any] | None = None
        """The last record."""
        self.validation_loss: float | None = None
        """The latest one; not every record has one."""
        self.curves = {name: Series() for name in _CURVES}
        self.quarters = [Series() for _ in QUARTERS]
        self._seconds_per_image_of_a_step = 0.0

    @property
    def step(self) -> int:
        """The last recorded step; 0 if there is none."""
        return int(self.last["step"]) if self.last is not None else 0

    def seconds(self, batch_size: int) -> float:
        """The training time, from the recorded speeds, without pauses, samples and evaluations."""
        return self._seconds_per_image_of_a_step * batch_size

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a record of the same or a later step."""
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
    """Read the training records of a log in the order of steps. Raises OSError if it cannot be read."""
    history = History()
    # Read records of all events, so that the warning names every unusable line.
    for record in log.records():
        if record["event"] != "step":
            continue
        if record["step"] < history.step:
            # The log was edited, because a run writes it in order. Only in this case, load and sort all records.
            history = History()
            for each in sorted(log.records("step"), key=lambda each: int(each["step"])):
                history.add(each)
            return history
        history.add(record)
    return history
