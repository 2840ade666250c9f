"""Writes a run as TensorBoard event files in the run folder: https://www.tensorflow.org/tensorboard.

A resumed run adds an event file whose purge step makes readers discard earlier events from that step on.
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
    """Writes each event to disk before the method returns, so a killed run loses no event before its checkpoint."""

    def __init__(self, config: ComponentConfig, *, run_folder: Path) -> None:
        """Writes nothing until the run starts."""
        self._folder = run_folder / "tensorboard"
        self._writer: SummaryWriter | None = None
        self._last_step = 0

    def run_started(self, event: RunStarted) -> None:
        """Open an event file and write the recipe to it."""
        # A new run writes its recipe at step 0, where an earlier attempt may have written one.
        writer = self._open(event.first_step + 1 if event.first_step else 0)
        self._last_step = event.first_step
        facts = {"name": event.name, "parameters": event.parameters, **event.recipe}
        lines = json.dumps(facts, indent=2, ensure_ascii=False, default=str).splitlines()
        # Text is Markdown: lines indented by four spaces are shown verbatim.
        writer.add_text("recipe", "\n".join(f"    {line}" for line in lines), event.first_step)
        writer.flush()

    def step(self, event: StepRecord) -> None:
        """Write losses, gradient norm, learning rate and speed."""
        if event.step <= self._last_step:
            # The run rolled back to an earlier checkpoint (`train.on_nonfinite = "rollback"`).
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
        """Write a grid of samples, or a strip of the forward or the reverse process."""
        if self._writer is not None:
            with Image.open(event.path) as opened:
                pixels = np.asarray(opened.convert("RGB"))
            self._writer.add_image(event.name, pixels, event.step, dataformats="HWC")
            self._writer.flush()

    def scores(self, event: Scores) -> None:
        """Write scores and their floors, under the metric's name."""
        floors = {f"{event.metric}/{name}_floor": value for name, value in event.floor.items()}
        self._write(event.step, {f"{event.metric}/{name}": value for name, value in event.values.items()} | floors)

    def run_ended(self, event: RunEnded) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self, purge_step: int) -> SummaryWriter:
        """Open a new event file, whose readers discard all earlier events from `purge_step` on."""
        if self._writer is not None:
            self._writer.close()
        if self._folder.is_symlink():
            raise InputError(
                f"{self._folder} is a link; it may lead outside the run folder.", remedies=["remove the link"]
            )
        self._writer = SummaryWriter(str(self._folder), purge_step=purge_step)
        return self._writer

    def _write(self, step: int, values: Mapping[str, float | None]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                if value is not None:
                    self._writer.add_scalar(name, value, step)
            self._writer.flush()
