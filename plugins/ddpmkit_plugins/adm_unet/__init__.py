"""The ADM U-Net: manifest and config."""

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class AdmUnetConfig(ComponentConfig):
    """Keys of `[backbone]` when `use = "adm-unet"`."""

    dim: int = Field(default=32, ge=8, multiple_of=8)
    """Base number of channels. Level i has `dim * multipliers[i]` channels."""
    multipliers: tuple[int, ...] = Field(default=(1, 2, 4), min_length=1)
    """Width of each level, as a multiple of `dim`. Each level except the last halves the resolution."""
    blocks: int = Field(default=2, ge=1)
    """Residual blocks of a level in the encoder; in the decoder there is one more."""
    attention_levels: tuple[int, ...] = (1, 2)
    """Levels with self-attention after each residual block; 0 is full resolution. The cost grows with the fourth power
    of the image side. Between encoder and decoder there is always one attention layer."""
    head_dim: int = Field(default=64, ge=1)
    """Channels of an attention head; must divide the width of each level with attention, and of the last level."""
    groups: int = Field(default=8, ge=1)
    """Groups of every group norm (32 in the paper); must divide `dim` into groups of 2 channels or more."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout rate in each residual block, in training."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(multiplier < 1 for multiplier in self.multipliers):
            raise ValueError("every entry of multipliers must be at least 1")
        levels = range(len(self.multipliers))
        if unknown := [level for level in self.attention_levels if level not in levels]:
            raise ValueError(f"attention_levels contains {unknown[0]}, but this network has levels 0 to {levels[-1]}")
        for level in sorted({*self.attention_levels, levels[-1]}):
            width = self.dim * self.multipliers[level]
            if width % self.head_dim:
                raise ValueError(f"head_dim = {self.head_dim} does not divide the {width} channels of level {level}")
        if self.dim % self.groups or self.dim == self.groups:
            raise ValueError(f"groups = {self.groups} must divide dim = {self.dim} into groups of 2 channels or more")
        return self


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the backbone."""
    yield Component(
        kind="backbone",
        name="adm-unet",
        target="ddpmkit_plugins.adm_unet.unet:AdmUnet",
        config="ddpmkit_plugins.adm_unet:AdmUnetConfig",
        summary="U-Net with adaptive group norm and self-attention (Dhariwal & Nichol 2021)",
        provides=("class-labels",),
    )
