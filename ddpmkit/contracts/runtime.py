"""What the core passes to the target of a component while it is built.

It does not know what the target makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

__all__ = ["KINDS", "RUNTIME", "ImageShape", "Prediction"]

RUNTIME: Mapping[str, tuple[str, ...]] = {
    "schedule": ("timesteps",),
    "backbone": ("image_shape", "num_classes", "out_channels"),
    "loss": ("prediction",),
    "sampler": (),
    "metric": ("device",),
    "dataset": ("split", "classes", "image_shape"),
    "tracker": ("run_folder",),
}
"""Keyword arguments that the core passes to `target(config, ...)`, by kind. A config may not use these names."""

KINDS: tuple[str, ...] = tuple(RUNTIME)
"""What a component can be."""

Prediction = Literal["epsilon", "x0", "v"]
"""What the network is trained to answer."""


class ImageShape(NamedTuple):
    """The shape of one image, without the batch."""

    channels: int
    """1 or 3; what a backbone sees may have twice as many."""
    height: int
    """In pixels."""
    width: int
    """In pixels."""
