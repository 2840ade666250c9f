"""Modes of generation that start from images: image-to-image, inpainting, interpolation.

Each function takes an `ImageGenerator` and returns another, which generates in this mode.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from ddpmkit.arguments import LARGEST_SEED, checked_int
from ddpmkit.data.images import to_float
from ddpmkit.diffusion import KnownPixels
from ddpmkit.diffusion.checks import describe
from ddpmkit.errors import InputError
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.sampling.initial_noise import InterpolatedNoise, NoisedImages
from ddpmkit.sampling.repaint import RePaint

__all__ = ["RESAMPLE", "STRENGTH", "image_interpolation", "image_to_image", "inpainting", "sample_interpolation"]

STRENGTH = 0.6
"""Default share of the process that an image is noised by: colours and outlines stay, details change."""
RESAMPLE = 4
"""Default number of passes when inpainting; twice as many improve little."""


def image_to_image(generator: ImageGenerator, image: Tensor, strength: float) -> ImageGenerator:
    """Noise `image` (uint8 [C, H, W]) by `strength` and denoise it again: Meng et al. (2022), SDEdit.

    `strength`: share of the noising steps, above 0 and at most 1; the same share of the sampling steps is taken. At 1
    nothing of the image remains, and the results are ordinary samples. Raises InputError for another strength, or an
    image of another shape.
    """
    x0 = _x0(generator, image)
    shortened = _shortened(generator, strength)
    return shortened if strength == 1 else replace(shortened, initial_noise=NoisedImages(x0[None]))


def inpainting(generator: ImageGenerator, image: Tensor, mask: Tensor, resample: int = RESAMPLE) -> ImageGenerator:
    """Generate the pixels where `mask` (bool [H, W]) is True, and keep those of `image` (uint8 [C, H, W]) elsewhere.

    Every estimate of x0 contains the known pixels, so that x_t follows the true posterior there. `resample`: passes
    over each part of the process, 1 or more, so that the generated pixels match the known ones; see `RePaint`. Raises
    InputError if the shapes do not match, or if no pixel of the mask is True.
    """
    x0 = _x0(generator, image)
    if mask.dtype != torch.bool or mask.shape != x0.shape[1:]:
        raise InputError(f"a mask must be bool {list(x0.shape[1:])}, not {describe(mask)}.")
    if not bool(mask.any()):
        raise InputError(
            "the mask has no white pixel, so there is nothing to paint.",
            remedies=["white marks what is painted, black is kept"],
        )
    resample = checked_int("resample", resample, 1)
    sampler = generator.sampler if resample == 1 else RePaint(generator.sampler, resample)
    return replace(generator, sampler=sampler, known=KnownPixels(x0, ~mask.to(x0.device)))


def image_interpolation(
    generator: ImageGenerator, first: Tensor, last: Tensor, count: int, strength: float
) -> ImageGenerator:
    """Generate `count` images between `first` and `last` (uint8 [C, H, W]): Ho et al. (2020), section 5.3, figure 8.

    Mixtures of both images are noised by `strength`, all with the same noise, as in `image_to_image`.
    """
    count = checked_int("count", count, 2)
    share = torch.linspace(0, 1, count, device=generator.runtime.device)[:, None, None, None]
    mixed = torch.lerp(_x0(generator, first)[None], _x0(generator, last)[None], share)
    return replace(_shortened(generator, strength), initial_noise=NoisedImages(mixed))


def sample_interpolation(generator: ImageGenerator, first: int, last: int, count: int) -> ImageGenerator:
    """Generate `count` images between the samples with index `first` and `last`: Song et al. (2021), DDIM, section 5.3.

    Raises InputError if an index is not in 0 .. 2**63 - 1, or if both are equal.
    """
    count = checked_int("count", count, 2)
    first, last = (checked_int("image index", index, 0, LARGEST_SEED) for index in (first, last))
    if first == last:
        raise InputError(f"cannot interpolate between image {first} and itself.")
    return replace(generator, initial_noise=InterpolatedNoise(first, last, count))


def _shortened(generator: ImageGenerator, strength: float) -> ImageGenerator:
    """Generate with the first `strength` of the process, in strides as long as those of the full process."""
    if not 0 < strength <= 1:
        raise InputError(f"a strength must be above 0 and at most 1, not {strength:g}.")
    process = generator.process
    timesteps = max(1, round(strength * process.timesteps))
    steps = math.ceil(generator.steps * timesteps / process.timesteps)
    return replace(generator, process=process.truncated(timesteps), steps=steps)


def _x0(generator: ImageGenerator, image: Tensor) -> Tensor:
    """uint8 [C, H, W] -> float [C, H, W] in [-1, 1], on the device of the generator."""
    if image.dtype != torch.uint8 or tuple(image.shape) != generator.image_shape:
        raise InputError(f"an image must be uint8 {list(generator.image_shape)}, not {describe(image)}.")
    return to_float(image).to(generator.runtime.device)
