"""The sigmoid schedule: manifest and config."""

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class SigmoidConfig(ComponentConfig):
    """Keys of `[schedule]` when `use = "sigmoid"`."""

    start: float = -3.0
    """Argument of the sigmoid at the clean image."""
    end: float = 3.0
    """Argument of the sigmoid at pure noise."""
    tau: float = Field(default=1.0, gt=0)
    """Temperature: divides the arguments. A smaller value gives more timesteps at very low and very high noise."""
    max_beta: float = Field(default=0.999, gt=0, lt=1)
    """Upper limit of beta. Without it, beta of the last timestep would be 1."""

    @model_validator(mode="after")
    def _goes_up(self) -> Self:
        if self.end <= self.start:
            raise ValueError("end must be greater than start")
        return self


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the schedule."""
    yield Component(
        kind="schedule",
        name="sigmoid",
        target="ddpmkit_plugins.sigmoid.schedule:SigmoidSchedule",
        config="ddpmkit_plugins.sigmoid:SigmoidConfig",
        summary="alpha_bar as a section of the sigmoid (Jabri et al. 2022)",
    )
