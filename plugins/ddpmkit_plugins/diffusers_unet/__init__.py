"""The U-Net of the package `diffusers`: manifest and config."""

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class DiffusersUnetConfig(ComponentConfig):
    """Keys of `[backbone]` when `use = "diffusers-unet"`. Those of `UNet2DModel` have the same names there."""

    block_out_channels: tuple[int, ...] = Field(default=(32, 64, 128), min_length=1)
    """Width of each level. Each level except the last halves the resolution."""
    layers_per_block: int = Field(default=2, ge=1)
    """Residual blocks of a level in the encoder; in the decoder there is one more."""
    attention_levels: tuple[int, ...] = (1, 2)
    """Levels with self-attention after each residual block; 0 is full resolution."""
    attention_head_dim: int = Field(default=32, ge=1)
    """Channels of an attention head; must divide the width of each level with attention, and of the last level."""
    norm_num_groups: int = Field(default=8, ge=1)
    """Groups of every group norm; must divide each entry of `block_out_channels` into groups of 2 channels or more."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout rate in each residual block, in training."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        levels = range(len(self.block_out_channels))
        if any(width < 1 for width in self.block_out_channels):
            raise ValueError("every entry of block_out_channels must be at least 1")
        if self.block_out_channels[0] % 2:
            raise ValueError("the first entry of block_out_channels must be even, for sines and cosines of t")
        if unknown := [level for level in self.attention_levels if level not in levels]:
            raise ValueError(f"attention_levels contains {unknown[0]}, but this network has levels 0 to {levels[-1]}")
        for level, width in enumerate(self.block_out_channels):
            if width % self.norm_num_groups or width == self.norm_num_groups:
                raise ValueError(
                    f"norm_num_groups = {self.norm_num_groups} must divide {width}, the width of level {level}, "
                    "into groups of 2 channels or more"
                )
            if level in {*self.attention_levels, levels[-1]} and width % self.attention_head_dim:
                raise ValueError(
                    f"attention_head_dim = {self.attention_head_dim} does not divide {width}, "
                    f"the width of level {level}"
                )
        return self


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the backbone."""
    yield Component(
        kind="backbone",
        name="diffusers-unet",
        target="ddpmkit_plugins.diffusers_unet.unet:DiffusersUnet",
        config="ddpmkit_plugins.diffusers_unet:DiffusersUnetConfig",
        summary="UNet2DModel of the package diffusers (pip install 'ddpmkit[diffusers]')",
        requires=("diffusers",),
        provides=("class-labels",),
    )
