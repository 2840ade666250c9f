"""The hybrid loss of Improved DDPM: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class IddpmHybridConfig(ComponentConfig):
    """Keys of `[loss]` when `use = "iddpm-hybrid"`."""

    bound_weight: float = Field(default=0.001, gt=0)
    """lambda: the weight of the variational bound, which trains the variance."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the loss."""
    yield Component(
        kind="loss",
        name="iddpm-hybrid",
        target="ddpmkit_plugins.iddpm_hybrid.loss:IddpmHybridLoss",
        config="ddpmkit_plugins.iddpm_hybrid:IddpmHybridConfig",
        summary="squared error, and a variance learned from the variational bound (Nichol & Dhariwal 2021)",
        provides=("learned-variance",),
    )
