"""A run as TensorBoard's event files: https://www.tensorflow.org/tensorboard.

They lie in the run folder. A run that goes on adds a file to them, which begins by telling readers from which step on
to forget what they read before.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord
from ddpmkit.plugin import ComponentConfig, InputError


class TensorboardTracker:
    """Every event is on disk when its method returns: a run that is killed loses none before its checkpoint."""

    def __init__(self, config: ComponentConfig, *, run_folder: Path) -> None:
        """Nothing is written before the run starts."""
        self._folder = run_folder / "tensorboard"
        self._writer: SummaryWriter | None = None
        self._last_step = 0

    def run_started(self, event: RunStarted) -> None:
        """Open an event file, and write the recipe to it."""
        # The recipe of a new run stands at step 0, where that of an earlier attempt may stand already.
        writer = self._open(event.first_step + 1 if event.first_step else 0)
        self._last_step = event.first_step
        facts = {"name": event.name, "parameters": event.parameters, **event.recipe}
        lines = json.dumps(facts, indent=2, ensure_ascii=False, default=str).splitlines()
        # Text is Markdown: what stands four spaces in is shown as it is.
        writer.add_text("recipe", "\n".join(f"    {line}" for line in lines), event.first_step)
        writer.flush()

    def step(self, event: StepRecord) -> None:
        """Losses, gradient norm, learning rate and speed."""
        if event.step <= self._last_step:
            # The run went back to an earlier checkpoint by itself, as `train.on_nonfinite = "rollback"` has it.
            self._open(event.step)
        self._last_step = event.step
        values = {
            "loss": event.loss,
            "validation_loss": event.validation_loss,
            "gradient_norm": event.gradient_norm,
            "learning_rate": event.learning_rate,
            "images_per_second": event.images_per_second,
        }
        quarters = {f"loss/t_q{number}": loss for number, loss in enumerate(event.loss_by_quarter, start=1)}
        self._write(event.step, values | quarters)

    def picture(self, event: Picture) -> None:
        """A grid of samples, or a strip of the forward or the reverse process."""
        if self._writer is not None:
            with Image.open(event.path) as opened:
                pixels = np.asarray(opened.convert("RGB"))
            self._writer.add_image(event.name, pixels, event.step, dataformats="HWC")
            self._writer.flush()

    def scores(self, event: Scores) -> None:
        """Scores and their floors, under the metric's name."""
        floors = {f"{event.metric}/{name}_floor": value for name, value in event.floor.items()}
        self._write(event.step, {f"{event.metric}/{name}": value for name, value in event.values.items()} | floors)

    def run_ended(self, event: RunEnded) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self, purge_step: int) -> SummaryWriter:
        """A new event file, whose readers forget every step from `purge_step` on."""
        if self._writer is not None:
            self._writer.close()
        if self._folder.is_symlink():
            raise InputError(f"{self._folder} is a link, and may lead anywhere.", remedies=["move it away"])
        self._writer = SummaryWriter(str(self._folder), purge_step=purge_step)
        return self._writer

    def _write(self, step: int, values: Mapping[str, float | None]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                if value is not None:
                    self._writer.add_scalar(name, value, step)
            self._writer.flush()
