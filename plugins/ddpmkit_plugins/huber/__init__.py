"""The Huber loss: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class HuberConfig(ComponentConfig):
    """Keys of `[loss]` when `use = "huber"`."""

    delta: float = Field(default=1.0, gt=0)
    """Absolute error above which the loss is linear; below it, the loss is quadratic."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the loss."""
    yield Component(
        kind="loss",
        name="huber",
        target="ddpmkit_plugins.huber.loss:HuberLoss",
        config="ddpmkit_plugins.huber:HuberConfig",
        summary="quadratic for small errors, linear for large ones (Huber 1964)",
    )
