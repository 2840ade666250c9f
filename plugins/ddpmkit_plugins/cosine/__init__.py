"""The cosine schedule: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class CosineConfig(ComponentConfig):
    """Keys of `[schedule]` when `use = "cosine"`."""

    s: float = Field(default=0.008, ge=0)
    """Offset that keeps beta of the first timesteps above 0."""
    max_beta: float = Field(default=0.999, gt=0, lt=1)
    """Upper limit of beta, the fraction of the signal's variance that one noising step replaces."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the schedule."""
    yield Component(
        kind="schedule",
        name="cosine",
        target="ddpmkit_plugins.cosine.schedule:CosineSchedule",
        config="ddpmkit_plugins.cosine:CosineConfig",
        summary="squared cosine in t (Nichol & Dhariwal 2021)",
    )
