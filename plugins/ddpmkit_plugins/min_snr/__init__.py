"""The min-SNR loss: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class MinSnrConfig(ComponentConfig):
    """Keys of `[loss]` when `use = "min-snr"`."""

    gamma: float = Field(default=5.0, gt=0)
    """Signal-to-noise ratio from which on a step's weight no longer grows."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the loss."""
    yield Component(
        kind="loss",
        name="min-snr",
        target="ddpmkit_plugins.min_snr.loss:MinSnrLoss",
        config="ddpmkit_plugins.min_snr:MinSnrConfig",
        summary="squared error, weighted so that easy timesteps do not drown the others (Hang et al. 2023)",
    )
