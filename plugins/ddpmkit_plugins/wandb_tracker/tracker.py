"""A run on Weights & Biases: https://docs.wandb.ai.

Its files lie in the run folder, and a run that is gone on with stays one run there. Nothing is ever asked of the person
at the terminal.
"""

import logging
import netrc
import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import wandb

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord
from ddpmkit_plugins.wandb_tracker import WandbConfig

_log = logging.getLogger(__name__)


class WandbTracker:
    """Passes every event on; the step of the training is the step of the chart."""

    def __init__(self, config: WandbConfig, *, run_folder: Path) -> None:
        """Nothing is contacted before the run starts."""
        self.config = config
        self.folder = run_folder
        self._run: wandb.Run | None = None

    def run_started(self, event: RunStarted) -> None:
        """Open the run, or open it again; offline when the server cannot be had."""
        mode: str = self.config.mode
        if mode == "disabled":
            return
        if mode == "online" and not _has_key():
            mode = _offline_because("there is no API key (`wandb login` sets one)")
        try:
            self._run = self._open(event, mode)
        except wandb.Error as error:
            if mode == "offline":
                raise
            self._run = self._open(event, _offline_because(str(error).splitlines()[0]))

    def step(self, event: StepRecord) -> None:
        """Losses, gradient norm, learning rate and speed."""
        values: dict[str, float | None] = {
            "loss": event.loss,
            "validation_loss": event.validation_loss,
            "gradient_norm": event.gradient_norm,
            "learning_rate": event.learning_rate,
            "images_per_second": event.images_per_second,
        }
        values |= {f"loss_by_quarter/{n}": loss for n, loss in enumerate(event.loss_by_quarter, start=1)}
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
        """Close the run."""
        if self._run is not None:
            self._run.finish(exit_code=1 if event.status == "failed" else 0)
            self._run = None

    def _open(self, event: RunStarted, mode: str) -> wandb.Run:
        config = self.config
        return wandb.init(
            project=config.project,
            entity=config.entity or None,
            tags=config.tags,
            name=event.name,
            id=self._identity(),
            resume="allow",
            dir=self.folder,
            config={**event.recipe, "parameters": event.parameters},
            mode="offline" if mode == "offline" else "online",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, init_timeout=config.init_timeout),
        )

    def _identity(self) -> str:
        """The run's id on the server, kept in the run folder so that a resumed run goes on there too."""
        file = self.folder / "wandb" / "run-id"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(secrets.token_hex(4), encoding="ascii")
        return file.read_text(encoding="ascii").strip()

    def _tell(self, step: int, values: Mapping[str, object]) -> None:
        if self._run is not None and values:
            self._run.log(dict(values), step=step)


def _offline_because(reason: str) -> str:
    _log.warning("wandb goes on offline: %s. `wandb sync` uploads the run later.", reason.rstrip("."))
    return "offline"


def _has_key() -> bool:
    """Whether wandb would find a key without asking for one: in its own settings, or in ~/.netrc."""
    settings = wandb.setup().settings
    if settings.api_key:
        return True
    try:
        return netrc.netrc().authenticators(urlsplit(settings.base_url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False
