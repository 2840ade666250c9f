"""The Laplace schedule: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class LaplaceConfig(ComponentConfig):
    """Keys of `[schedule]` when `use = "laplace"`."""

    mean: float = 0.0
    """The log-SNR near which most timesteps are."""
    scale: float = Field(default=0.5, gt=0)
    """Width of the distribution of log-SNR. The log-SNR of the last timestep is mean - scale ln((T + 1) / 2). Sampling
    starts from pure noise: if this timestep has too much signal for that, set `diffusion.zero_terminal_snr`."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the schedule."""
    yield Component(
        kind="schedule",
        name="laplace",
        target="ddpmkit_plugins.laplace.schedule:LaplaceSchedule",
        config="ddpmkit_plugins.laplace:LaplaceConfig",
        summary="log-SNR as a Laplace distribution: most timesteps at medium noise (Hang et al. 2024)",
    )
