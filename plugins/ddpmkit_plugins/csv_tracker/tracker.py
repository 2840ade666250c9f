"""Writes a run as two tables: `metrics.csv` with a row per training record, `scores.csv` with a row per score.

When a run resumes, rows after its checkpoint are dropped, so the tables equal those of an uninterrupted run.
"""

from pathlib import Path

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord
from ddpmkit.plugin import ComponentConfig
from ddpmkit_plugins.csv_tracker.table import Table

METRICS = (
    "step", "loss", "validation_loss", "gradient_norm", "learning_rate", "images_per_second",
    "loss_t_q1", "loss_t_q2", "loss_t_q3", "loss_t_q4",
)  # fmt: skip
SCORES = (
    "step", "metric", "score", "value", "floor", "better", "protocol", "comparable", "num_samples", "num_reference",
)  # fmt: skip


class CsvTracker:
    """Writes each row before the event returns. Numbers are written so that Python reads the same value back."""

    def __init__(self, config: ComponentConfig, *, run_folder: Path) -> None:
        """Writes nothing until the run starts."""
        self._metrics = Table(run_folder / "metrics.csv", METRICS)
        self._scores = Table(run_folder / "scores.csv", SCORES)
        self._last_step = 0

    def run_started(self, event: RunStarted) -> None:
        """Create both tables, or drop their rows after the step at which the run resumes."""
        self._drop_after(event.first_step)
        self._scores.keep(lambda step: step < event.first_step)  # the scores of this step are sent again

    def step(self, event: StepRecord) -> None:
        """Append a row."""
        if event.step <= self._last_step:
            # The run rolled back to an earlier checkpoint (`train.on_nonfinite = "rollback"`).
            self._drop_after(event.step - 1)
        self._last_step = event.step
        numbers = (event.loss, event.validation_loss, event.gradient_norm, event.learning_rate, event.images_per_second)
        self._metrics.append((event.step, *numbers, *event.loss_by_quarter))

    def picture(self, event: Picture) -> None:
        """Do nothing: a table contains no images."""

    def scores(self, event: Scores) -> None:
        """Append a row per score."""
        rules = (event.protocol, event.comparable, event.num_samples, event.num_reference)
        self._scores.append(
            *(
                (event.step, event.metric, name, value, event.floor.get(name), event.better.get(name), *rules)
                for name, value in event.values.items()
            )
        )

    def run_ended(self, event: RunEnded) -> None:
        """Do nothing: the tables are always complete."""

    def _drop_after(self, step: int) -> None:
        for table in (self._metrics, self._scores):
            table.keep(lambda found: found <= step)
        self._last_step = step
