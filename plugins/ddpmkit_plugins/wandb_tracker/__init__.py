"""Weights & Biases: manifest and config."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class WandbConfig(ComponentConfig):
    """Keys of `[[tracker]]` when `use = "wandb"`."""

    mode: Literal["online", "offline", "disabled"] = "online"
    """`online` falls back to `offline` without an API key or a network; `wandb sync` uploads an offline run later."""
    project: str = Field(default="ddpmkit", min_length=1)
    """The project that the run belongs to."""
    entity: str = ""
    """User or team; if empty, the account's default."""
    name: str = ""
    """The name of the run on Weights & Biases; if empty, the recipe's name."""
    tags: tuple[str, ...] = ()
    """Labels of the run."""
    init_timeout: float = Field(default=20.0, gt=0)
    """Seconds to wait for the server before the run continues offline."""

    def unused_keys(self) -> Iterator[tuple[str, str]]:
        """Keys that have no effect without a server."""
        if self.mode != "online":
            yield "init_timeout", f'mode = "{self.mode}" uses no server'


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the tracker."""
    yield Component(
        kind="tracker",
        name="wandb",
        target="ddpmkit_plugins.wandb_tracker.tracker:WandbTracker",
        config="ddpmkit_plugins.wandb_tracker:WandbConfig",
        summary="losses, scores and images on Weights & Biases, online or offline",
        requires=("wandb",),
    )


@hookimpl
def ddpmkit_diagnoses() -> Iterator[str]:
    """Whether runs are online."""
    yield "ddpmkit_plugins.wandb_tracker.diagnosis:connection"
