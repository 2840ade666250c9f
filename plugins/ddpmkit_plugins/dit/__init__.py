"""The diffusion transformer: manifest and config."""

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class DitConfig(ComponentConfig):
    """Keys of `[backbone]` when `use = "dit"`. The smallest of the paper, DiT-S, has depth 12, dim 384 and 6 heads."""

    depth: int = Field(default=6, ge=1)
    """Transformer blocks."""
    dim: int = Field(default=128, ge=4, multiple_of=4)
    """Channels of a token."""
    heads: int = Field(default=4, ge=1)
    """Attention heads; must divide `dim`."""
    patch_size: int = Field(default=2, ge=1)
    """Side in pixels of the square that becomes one token. Half the side gives four times as many tokens."""
    mlp_ratio: float = Field(default=4.0, gt=0)
    """Hidden channels of the feed-forward layer, as a multiple of `dim`."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads = {self.heads} does not divide dim = {self.dim}")
        if self.dim * self.mlp_ratio < 1:
            raise ValueError(
                f"mlp_ratio = {self.mlp_ratio} is too small: it gives 0 hidden channels at dim = {self.dim}"
            )
        return self


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the backbone."""
    yield Component(
        kind="backbone",
        name="dit",
        target="ddpmkit_plugins.dit.transformer:Dit",
        config="ddpmkit_plugins.dit:DitConfig",
        summary="diffusion transformer with adaLN-zero blocks (Peebles & Xie 2023)",
        provides=("class-labels",),
    )
