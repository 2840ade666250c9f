"""A run on Weights & Biases: https://docs.wandb.ai.

Its files lie in the run folder, and a run that is gone on with stays one run there. Nothing is ever asked of the person
at the terminal, and nothing is printed but the one line that says why a run goes on offline, or without it. Training
never waits for it: whatever happens to wandb's service, or to its disk, happens in a thread of its own.
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
"""Seconds that the last uploads may take; what is not up by then stays in the run folder for `wandb sync`."""


_PATIENCE = 30.0
"""Seconds without an answer after which wandb is taken for dead; it answers in milliseconds, the network or not."""


class WandbTracker:
    """Passes every event on; the step of the training is the x axis of every chart."""

    def __init__(self, config: WandbConfig, *, run_folder: Path) -> None:
        """Nothing is contacted before the run starts."""
        self.config = config
        self.folder = run_folder
        self._run: wandb.Run | None = None
        self._box = EventQueue(_PATIENCE)

    def run_started(self, event: RunStarted) -> None:
        """Open the run, or open it again; offline when the server cannot be had."""
        if self.config.mode == "disabled":
            return
        self._identity()  # a folder that cannot hold it is refused before wandb starts
        with self._or_abandoned():
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
        self._tell(event.step, lambda: {name: value for name, value in values.items() if value is not None})

    def picture(self, event: Picture) -> None:
        """A grid of samples, or a strip of the forward or the reverse process."""
        self._tell(event.step, lambda: {event.name: wandb.Image(str(event.path))})

    def scores(self, event: Scores) -> None:
        """Scores and their floors, under the metric's name."""
        floors = {f"{event.metric}/{name}_floor": value for name, value in event.floor.items()}
        values = {f"{event.metric}/{name}": value for name, value in event.values.items()}
        self._tell(event.step, lambda: values | floors)

    def run_ended(self, event: RunEnded) -> None:
        """Close the run; wait for its last uploads, but not for ever."""
        if self._run is None:
            return
        run, self._run = self._run, None
        with self._or_abandoned():
            self._box.post(lambda: self._finish(run, 1 if event.status == "failed" else 0))
            self._box.empty(_FINISH_TIMEOUT + _PATIENCE)

    def _finish(self, run: wandb.Run, exit_code: int) -> None:
        try:
            run.finish(exit_code=exit_code)
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
        if file.is_symlink() or file.parent.is_symlink():
            raise InputError(
                f"{file.parent} or its run-id is a link, and may lead anywhere.", remedies=["move it away"]
            )
        if not (file.is_file() and file.read_text(encoding="ascii").strip()):
            with atomic_write(file) as new:
                new.write(secrets.token_hex(4).encode())
        return file.read_text(encoding="ascii").strip()

    def _tell(self, step: int, values: Callable[[], Mapping[str, object]]) -> None:
        """`values` is called where there is time for it: it may read a picture."""
        run = self._run
        if run is None:
            return

        def log() -> None:
            # wandb's own step only ever rises, and what is logged below it is dropped. A run that goes on from a
            # checkpoint may tell of steps below it once more; these follow in rows of their own, placed by the "step"
            # they carry.
            run.log({"step": step, **values()}, step=step if step >= run.step else None)

        with self._or_abandoned():
            self._box.post(log)

    @contextlib.contextmanager
    def _or_abandoned(self) -> Iterator[None]:
        """When wandb is dead, see to it that the end of the process does not wait for it either."""
        try:
            yield
        except Exception:
            self._run = None
            _abandon_service()
            raise


def _abandon_service() -> None:
    """End wandb's service and its hook at the exit of the process: that one waits for a dead service for ever.

    wandb has no public way to do it. Where a later version calls these things otherwise, the hook stays.
    """
    with contextlib.suppress(Exception):
        connection = wandb_setup.singleton()._connection
        if connection is not None and connection._proc is not None and connection._cleanup is not None:
            connection._cleanup()
            connection._proc._process.kill()


def _hush() -> None:
    """Start wandb without its voice; silent, it neither prints nor asks for a key."""
    wandb.setup(wandb.Settings(silent=True))
