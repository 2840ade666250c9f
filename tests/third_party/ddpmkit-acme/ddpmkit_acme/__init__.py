"""A third-party schedule: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class ZigzagConfig(ComponentConfig):
    """Keys of `[schedule]` when `use = "acme/zigzag"`."""

    depth: float = Field(default=0.5, ge=0, lt=1)
    """Depth of the waves in log alpha_bar; 0 is exponential decay."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the schedule."""
    yield Component(
        kind="schedule",
        name="zigzag",
        target="ddpmkit_acme.schedule:ZigzagSchedule",
        config="ddpmkit_acme:ZigzagConfig",
        summary="alpha_bar falls in waves",
    )
