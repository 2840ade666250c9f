"""The attention U-Net: manifest and config."""

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class AttentionUnetConfig(ComponentConfig):
    """Keys of `[backbone]` when `use = "attention-unet"`."""

    dim: int = Field(default=16, ge=8, multiple_of=8)
    """Channels at full resolution. Level i has `dim * multipliers[i]` channels."""
    multipliers: tuple[int, ...] = Field(default=(1, 2, 4, 8), min_length=1)
    """Width of each level, as a multiple of `dim`. Each level except the last halves the resolution."""
    linear_attention_levels: tuple[int, ...] = (1, 2, 3)
    """Levels with linear attention, in the encoder and in the decoder; 0 is full resolution."""
    heads: int = Field(default=4, ge=1)
    """Attention heads."""
    head_dim: int = Field(default=32, ge=1)
    """Channels of an attention head."""
    groups: int = Field(default=8, ge=1)
    """Groups of every group norm; must divide `dim`."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(multiplier < 1 for multiplier in self.multipliers):
            raise ValueError("every entry of multipliers must be at least 1")
        levels = range(len(self.multipliers))
        if unknown := [level for level in self.linear_attention_levels if level not in levels]:
            message = f"linear_attention_levels contains {unknown[0]}, but this network has levels 0 to {levels[-1]}"
            raise ValueError(message)
        if self.dim % self.groups:
            raise ValueError(f"groups = {self.groups} does not divide dim = {self.dim}")
        return self


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the backbone."""
    yield Component(
        kind="backbone",
        name="attention-unet",
        target="ddpmkit_plugins.attention_unet.unet:AttentionUnet",
        config="ddpmkit_plugins.attention_unet:AttentionUnetConfig",
        summary="U-Net of weight-standardized blocks with linear attention at several resolutions",
        provides=("class-labels",),
    )
