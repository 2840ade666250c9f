"""The Laplace schedule: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class LaplaceConfig(ComponentConfig):
    """Keys of `[schedule]` when `use = "laplace"`."""

    mean: float = 0.0
    """The log-SNR that most steps are spent around."""
    scale: float = Field(default=0.5, gt=0)
    """How closely. The last step's log-SNR is mean - scale ln((T + 1) / 2): where that leaves too much signal for
    sampling to start from pure noise, `diffusion.zero_terminal_snr` takes the rest away."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the schedule."""
    yield Component(
        kind="schedule",
        name="laplace",
        target="ddpmkit_plugins.laplace.schedule:LaplaceSchedule",
        config="ddpmkit_plugins.laplace:LaplaceConfig",
        summary="log-SNR spread as a Laplace distribution: most steps at medium noise (Hang et al. 2024)",
    )
