"""The kinds of components, and the keyword arguments (runtime arguments) that the core passes to each kind."""

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
"""The keyword arguments of `target(config, ...)`, by kind. A config cannot have fields with these names."""

KINDS: tuple[str, ...] = tuple(RUNTIME)
"""All kinds of components."""

Prediction = Literal["epsilon", "x0", "v"]
"""What the network predicts: the noise, the clean image, or v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0."""


class ImageShape(NamedTuple):
    """The shape of one image, without the batch."""

    channels: int
    """1 or 3. The input of a backbone has twice as many with `diffusion.self_conditioning`."""
    height: int
    """In pixels."""
    width: int
    """In pixels."""
