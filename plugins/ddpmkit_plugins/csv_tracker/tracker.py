"""A run as two tables: `metrics.csv` with a row a record of training, `scores.csv` with a row a score.

They hold what an unbroken run would have written: what comes after the checkpoint that a run goes on from is dropped.
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
    """Every row is in the file when the event returns. Numbers are written as Python reads them back."""

    def __init__(self, config: ComponentConfig, *, run_folder: Path) -> None:
        """Nothing is written before the run starts."""
        self._metrics = Table(run_folder / "metrics.csv", METRICS)
        self._scores = Table(run_folder / "scores.csv", SCORES)
        self._last_step = 0

    def run_started(self, event: RunStarted) -> None:
        """Begin both tables, or go on with them after the step that the run goes on from."""
        self._go_back_to(event.first_step)
        self._scores.keep(lambda step: step < event.first_step)  # those of this step are told again

    def step(self, event: StepRecord) -> None:
        """One row."""
        if event.step <= self._last_step:
            # The run went back to an earlier checkpoint by itself, as `train.on_nonfinite = "rollback"` has it.
            self._go_back_to(event.step - 1)
        self._last_step = event.step
        numbers = (event.loss, event.validation_loss, event.gradient_norm, event.learning_rate, event.images_per_second)
        self._metrics.append((event.step, *numbers, *event.loss_by_quarter))

    def picture(self, event: Picture) -> None:
        """Nothing: a table holds no pictures."""

    def scores(self, event: Scores) -> None:
        """One row a score."""
        rules = (event.protocol, event.comparable, event.num_samples, event.num_reference)
        self._scores.append(
            *(
                (event.step, event.metric, name, value, event.floor.get(name), event.better.get(name), *rules)
                for name, value in event.values.items()
            )
        )

    def run_ended(self, event: RunEnded) -> None:
        """Nothing: the tables are whole at any time."""

    def _go_back_to(self, step: int) -> None:
        for table in (self._metrics, self._scores):
            table.keep(lambda found: found <= step)
        self._last_step = step
