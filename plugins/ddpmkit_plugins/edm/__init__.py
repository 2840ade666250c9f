"""The noise levels of EDM: manifest and config."""

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class EdmConfig(ComponentConfig):
    """Keys of `[schedule]` when `use = "edm"`."""

    sigma_min: float = Field(default=0.002, gt=1e-6)
    """sigma, the ratio of noise to signal, at the first timestep."""
    sigma_max: float = Field(default=80.0, gt=0, lt=1e6)
    """sigma at the last timestep."""
    rho: float = Field(default=7.0, gt=0)
    """Exponent of the spacing. A larger value gives more timesteps at low noise."""

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.sigma_max <= self.sigma_min:
            raise ValueError("sigma_max must be greater than sigma_min")
        return self


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the schedule."""
    yield Component(
        kind="schedule",
        name="edm",
        target="ddpmkit_plugins.edm.schedule:EdmSchedule",
        config="ddpmkit_plugins.edm:EdmConfig",
        summary="the noise levels of EDM as alpha_bar (Karras et al. 2022)",
    )
