"""A schedule from a stranger: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class ZigzagConfig(ComponentConfig):
    """Keys of `[schedule]` when `use = "acme/zigzag"`."""

    depth: float = Field(default=0.5, ge=0, lt=1)
    """How much the speed of the noising goes up and down."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the schedule."""
    yield Component(
        kind="schedule",
        name="zigzag",
        target="ddpmkit_acme.schedule:ZigzagSchedule",
        config="ddpmkit_acme:ZigzagConfig",
        summary="fades in waves",
    )
