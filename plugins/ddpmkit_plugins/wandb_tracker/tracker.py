"""Logs a run to Weights & Biases: https://docs.wandb.ai.

Its files are in the run folder, and a resumed run stays one run on the server. It never prompts, and prints only one
line if the run continues offline or without wandb. Training never waits for wandb, whose calls run in another thread.
"""

import contextlib
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import wandb
from wandb.sdk import wandb_setup

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord
from ddpmkit.plugin import InputError, atomic_write
from ddpmkit_plugins.wandb_tracker import WandbConfig
from ddpmkit_plugins.wandb_tracker.event_queue import EventQueue

_log = logging.getLogger(__name__)

_FINISH_TIMEOUT = 60.0
"""Seconds that the last uploads may take; the rest stays in the run folder for `wandb sync`."""


_TIMEOUT = 30.0
"""Seconds without a response after which wandb counts as dead; it responds in milliseconds even without a network."""


class WandbTracker:
    """Forwards every event; the training step is the x axis of every chart."""

    def __init__(self, config: WandbConfig, *, run_folder: Path) -> None:
        """Contacts no server until the run starts."""
        self.config = config
        self.folder = run_folder
        self._run: wandb.Run | None = None
        self._queue = EventQueue(_TIMEOUT)

    def run_started(self, event: RunStarted) -> None:
        """Open the run, or resume it; offline if the server is not available."""
        if self.config.mode == "disabled":
            return
        self._identity()  # raises for an unusable folder before wandb starts
        with self._abandoning_on_failure():
            _set_up_silently()
            self._run = self._open_online(event) if self.config.mode == "online" else self._open(event, "offline")
            self._run.define_metric("*", step_metric="step")

    def step(self, event: StepRecord) -> None:
        """Log losses, gradient norm, learning rate and speed."""
        values: dict[str, float | None] = {
            "loss": event.loss,
            "validation_loss": event.validation_loss,
            "gradient_norm": event.gradient_norm,
            "learning_rate": event.learning_rate,
            "images_per_second": event.images_per_second,
        }
        values |= {f"loss/t_q{number}": loss for number, loss in enumerate(event.loss_by_quarter, start=1)}
        self._log_values(event.step, lambda: {name: value for name, value in values.items() if value is not None})

    def picture(self, event: Picture) -> None:
        """Log a grid of samples, or a strip of the forward or the reverse process."""
        self._log_values(event.step, lambda: {event.name: wandb.Image(str(event.path))})

    def scores(self, event: Scores) -> None:
        """Log scores and their floors, under the metric's name."""
        floors = {f"{event.metric}/{name}_floor": value for name, value in event.floor.items()}
        values = {f"{event.metric}/{name}": value for name, value in event.values.items()}
        self._log_values(event.step, lambda: values | floors)

    def run_ended(self, event: RunEnded) -> None:
        """Close the run, and wait for its last uploads for a limited time."""
        if self._run is None:
            return
        run, self._run = self._run, None
        with self._abandoning_on_failure():
            self._queue.post(lambda: self._finish(run, 1 if event.status == "failed" else 0))
            self._queue.wait(_FINISH_TIMEOUT + _TIMEOUT)

    def _finish(self, run: wandb.Run, exit_code: int) -> None:
        try:
            run.finish(exit_code=exit_code)
        except TimeoutError:
            folder = Path(run.dir).parent
            _log.warning("wandb could not upload everything in time: run `wandb sync %s` to upload the rest.", folder)

    def _open_online(self, event: RunStarted) -> wandb.Run:
        """Open the run online; offline without a key, without a response in time, or if the server rejects the run."""
        try:
            return self._open(event, None)
        except wandb.Error as error:
            if isinstance(error, wandb.errors.CommError):
                # The service reserves the id of the run that it could not open; restart it to reuse the id.
                wandb.teardown()
                _set_up_silently()
            reason = str(error).partition("\n")[0].rstrip(".")
            _log.warning("wandb continues offline: %s. Run `wandb sync` to upload the run later.", reason)
            return self._open(event, "offline")

    def _open(self, event: RunStarted, mode: Literal["offline"] | None) -> wandb.Run:
        """Open the run; `mode` None means online, unless wandb's own settings (such as WANDB_MODE) override it."""
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
            reinit="create_new",  # another run in this process, such as in a notebook, is not affected
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
        """The run's id on the server, stored in the run folder so that a resumed run keeps it."""
        file = self.folder / "wandb" / "run-id"
        if file.is_symlink() or file.parent.is_symlink():
            raise InputError(
                f"{file.parent} or its run-id is a link; it may lead outside the run folder.",
                remedies=["remove the link"],
            )
        if not (file.is_file() and file.read_text(encoding="ascii").strip()):
            with atomic_write(file) as new:
                new.write(secrets.token_hex(4).encode())
        return file.read_text(encoding="ascii").strip()

    def _log_values(self, step: int, values: Callable[[], Mapping[str, object]]) -> None:
        """`values` is called in the thread, because it may read an image file."""
        run = self._run
        if run is None:
            return

        def log() -> None:
            # wandb's own step only increases, and values logged below it are dropped. A resumed run may log earlier
            # steps again; they become additional rows, placed by their value of "step".
            run.log({"step": step, **values()}, step=step if step >= run.step else None)

        with self._abandoning_on_failure():
            self._queue.post(log)

    @contextlib.contextmanager
    def _abandoning_on_failure(self) -> Iterator[None]:
        """If wandb fails, also prevent the exit of the process from waiting for it."""
        try:
            yield
        except Exception:
            self._run = None
            _abandon_service()
            raise


def _abandon_service() -> None:
    """End wandb's service and remove its exit hook, which would wait for a dead service indefinitely.

    wandb has no public API for this. If a later version renames these attributes, the hook stays.
    """
    with contextlib.suppress(Exception):
        connection = wandb_setup.singleton()._connection
        if connection is not None and connection._proc is not None and connection._cleanup is not None:
            connection._cleanup()
            connection._proc._process.kill()


def _set_up_silently() -> None:
    """Start wandb in silent mode, in which it neither prints nor prompts for a key."""
    wandb.setup(wandb.Settings(silent=True))
