"""The min-SNR loss: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class MinSnrConfig(ComponentConfig):
    """Keys of `[loss]` when `use = "min-snr"`."""

    gamma: float = Field(default=5.0, gt=0)
    """Signal-to-noise ratio above which the weight of a timestep no longer grows."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the loss."""
    yield Component(
        kind="loss",
        name="min-snr",
        target="ddpmkit_plugins.min_snr.loss:MinSnrLoss",
        config="ddpmkit_plugins.min_snr:MinSnrConfig",
        summary="squared error, with the weight of timesteps at low noise limited (Hang et al. 2023)",
    )
