"""A run on Weights & Biases: https://docs.wandb.ai.

Its files lie in the run folder, and a run that is gone on with stays one run there. Nothing is ever asked of the person
at the terminal, and nothing is printed but the one line that says why a run goes on offline.
"""

import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import wandb

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord
from ddpmkit_plugins.wandb_tracker import WandbConfig

_log = logging.getLogger(__name__)

_FINISH_TIMEOUT = 60.0
"""Seconds that the last uploads may take; what is not up by then stays in the run folder for `wandb sync`."""


class WandbTracker:
    """Passes every event on; the step of the training is the x axis of every chart."""

    def __init__(self, config: WandbConfig, *, run_folder: Path) -> None:
        """Nothing is contacted before the run starts."""
        self.config = config
        self.folder = run_folder
        self._run: wandb.Run | None = None

    def run_started(self, event: RunStarted) -> None:
        """Open the run, or open it again; offline when the server cannot be had."""
        if self.config.mode == "disabled":
            return
        _hush()
        self._run = self._open_online(event) if self.config.mode == "online" else self._open(event, "offline")
        self._run.define_metric("*", step_metric="step")

    def step(self, event: StepRecord) -> None:
        """Losses, gradient norm, learning rate and speed."""
        values: dict[str, float | None] = {
            "loss": event.loss,
            "validation_loss": event.validation_loss,
            "gradient_norm": event.gradient_norm,
            "learning_rate": event.learning_rate,
            "images_per_second": event.images_per_second,
        }
        values |= {f"loss/t_q{number}": loss for number, loss in enumerate(event.loss_by_quarter, start=1)}
        self._tell(event.step, {name: value for name, value in values.items() if value is not None})

    def picture(self, event: Picture) -> None:
        """A grid of samples, or a strip of the forward or the reverse process."""
        if self._run is not None:
            self._tell(event.step, {event.name: wandb.Image(str(event.path))})

    def scores(self, event: Scores) -> None:
        """Scores and their floors, under the metric's name."""
        floors = {f"{event.metric}/{name}_floor": value for name, value in event.floor.items()}
        self._tell(event.step, {f"{event.metric}/{name}": value for name, value in event.values.items()} | floors)

    def run_ended(self, event: RunEnded) -> None:
        """Close the run; wait for its last uploads, but not for ever."""
        if self._run is None:
            return
        run, self._run = self._run, None
        try:
            run.finish(exit_code=1 if event.status == "failed" else 0)
        except TimeoutError:
            rest = Path(run.dir).parent
            _log.warning("wandb could not upload everything in time; `wandb sync %s` uploads the rest.", rest)

    def _open_online(self, event: RunStarted) -> wandb.Run:
        """Offline without a key, without an answer in time, and where the server refuses the run."""
        try:
            return self._open(event, None)
        except wandb.Error as error:
            if isinstance(error, wandb.errors.CommError):
                # The service holds on to the id of the run that it could not open; a new one does not know it.
                wandb.teardown()
                _hush()
            reason = str(error).partition("\n")[0].rstrip(".")
            _log.warning("wandb goes on offline: %s. `wandb sync` uploads the run later.", reason)
            return self._open(event, "offline")

    def _open(self, event: RunStarted, mode: Literal["offline"] | None) -> wandb.Run:
        """`mode` None is online, unless wandb's own settings (WANDB_MODE, say) decide otherwise."""
        config = self.config
        return wandb.init(
            project=config.project,
            entity=config.entity or None,
            tags=config.tags,
            name=config.name or event.name,
            id=self._identity(),
            resume="allow",
            dir=self.folder,
            config={**event.recipe, "parameters": event.parameters},
            mode=mode,
            reinit="create_new",  # a run of the caller's own, in a notebook say, stays as it is
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                init_timeout=config.init_timeout,
                finish_timeout=_FINISH_TIMEOUT,
                finish_timeout_raises=True,
            ),
        )

    def _identity(self) -> str:
        """The run's id on the server, kept in the run folder so that a resumed run goes on there too."""
        file = self.folder / "wandb" / "run-id"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(secrets.token_hex(4), encoding="ascii")
        return file.read_text(encoding="ascii").strip()

    def _tell(self, step: int, values: Mapping[str, object]) -> None:
        if self._run is None or not values:
            return
        # wandb's own step only ever rises, and what is logged below it is dropped. A run that goes on from a checkpoint
        # may tell of steps below it once more; these follow in rows of their own, placed by the "step" they carry.
        row = step if step >= self._run.step else None
        self._run.log({"step": step, **values}, step=row)


def _hush() -> None:
    """Start wandb without its voice; silent, it neither prints nor asks for a key."""
    wandb.setup(wandb.Settings(silent=True))
