"""The linear and the scaled linear schedule: manifest and configs."""

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class LinearConfig(ComponentConfig):
    """Keys of `[schedule]` when `use = "linear"`."""

    first_beta: float = Field(default=1e-4, gt=0, lt=1)
    """beta of the first timestep if T = `reference_timesteps`."""
    last_beta: float = Field(default=0.02, gt=0, lt=1)
    """beta of the last timestep if T = `reference_timesteps`."""
    reference_timesteps: int = Field(default=1000, ge=1)
    """The T for which the betas are defined. With another T, alpha_bar follows the same curve in T steps."""

    @model_validator(mode="after")
    def _betas_grow(self) -> Self:
        if self.last_beta < self.first_beta:
            raise ValueError("last_beta must not be smaller than first_beta")
        return self


class ScaledLinearConfig(LinearConfig):
    """Keys of `[schedule]` when `use = "scaled-linear"`."""

    first_beta: float = Field(default=0.00085, gt=0, lt=1)
    """beta of the first timestep if T = `reference_timesteps`."""
    last_beta: float = Field(default=0.012, gt=0, lt=1)
    """beta of the last timestep if T = `reference_timesteps`."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare both schedules."""
    yield Component(
        kind="schedule",
        name="linear",
        target="ddpmkit_plugins.linear.schedule:LinearSchedule",
        config="ddpmkit_plugins.linear:LinearConfig",
        summary="betas that grow linearly in t (Ho et al. 2020)",
    )
    yield Component(
        kind="schedule",
        name="scaled-linear",
        target="ddpmkit_plugins.linear.schedule:ScaledLinearSchedule",
        config="ddpmkit_plugins.linear:ScaledLinearConfig",
        summary="betas whose square root grows linearly in t (Rombach et al. 2022)",
    )
