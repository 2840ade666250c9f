"""The linear schedule: manifest and config."""

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class LinearConfig(ComponentConfig):
    """Keys of `[schedule]` when `use = "linear"`."""

    first_beta: float = Field(default=1e-4, gt=0, lt=1)
    """beta of the first step, at `reference_timesteps`."""
    last_beta: float = Field(default=0.02, gt=0, lt=1)
    """beta of the last step, at `reference_timesteps`."""
    reference_timesteps: int = Field(default=1000, ge=1)
    """The T at which the betas hold. With fewer timesteps, each step covers as much of the same path as it must."""

    @model_validator(mode="after")
    def _betas_grow(self) -> Self:
        if self.last_beta < self.first_beta:
            raise ValueError("last_beta must not be smaller than first_beta")
        return self


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the schedule."""
    yield Component(
        kind="schedule",
        name="linear",
        target="ddpmkit_plugins.linear.schedule:LinearSchedule",
        config="ddpmkit_plugins.linear:LinearConfig",
        summary="betas that grow linearly in t (Ho et al. 2020)",
    )
