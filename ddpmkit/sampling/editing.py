"""Modes of drawing: from a picture, around known pixels, between two pictures or two samples.

Each makes of what draws images from pure noise something that draws them in this mode. It does not know the sampler.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from ddpmkit.arguments import checked_int
from ddpmkit.data.images import to_float
from ddpmkit.diffusion import Known
from ddpmkit.errors import InputError
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.sampling.initial_noise import BetweenImages, NoisedPictures
from ddpmkit.sampling.repaint import Resampled

__all__ = ["RESAMPLE", "STRENGTH", "between_pictures", "between_samples", "edited", "inpainted"]

STRENGTH = 0.6
"""How much of the process a picture is taken through, unless told: its colours and outlines stay, its details go."""
RESAMPLE = 4
"""How often each stretch is walked when something is painted, unless told: twice as often gains little more."""


def edited(generator: ImageGenerator, picture: Tensor, strength: float) -> ImageGenerator:
    """Noise `picture` (uint8 [C, H, W]) by `strength`, and draw images from there: Meng et al. (2022), SDEdit.

    `strength` is the share of the noising steps that are taken, more than 0 and at most 1; so many of the sampling
    steps are left. At 1 nothing of the picture is left: these are ordinary samples. Raises InputError for what is no
    strength, or a picture of another shape.
    """
    x0 = _x0(generator, picture)
    begun = _shortened(generator, strength)
    return begun if strength == 1 else replace(begun, start=NoisedPictures(x0[None]))


def inpainted(generator: ImageGenerator, picture: Tensor, mask: Tensor, resample: int = RESAMPLE) -> ImageGenerator:
    """Draw images that are `picture` (uint8 [C, H, W]) exactly where `mask` (bool [H, W]) is False.

    Every estimate of x0 has the picture's pixels there, so the noised pixels follow the true posterior given the
    picture, and those to be painted follow them; each stretch of the process is walked `resample` times for that
    (1 or more), see `Resampled`. Raises InputError for shapes that do not fit, or a mask without True.
    """
    x0 = _x0(generator, picture)
    if mask.dtype != torch.bool or mask.shape != x0.shape[1:]:
        raise InputError(f"a mask must be bool {list(x0.shape[1:])}, not {_described(mask)}.")
    if not bool(mask.any()):
        raise InputError("the mask leaves nothing to paint.", remedies=["white marks what is painted, black is kept"])
    resample = checked_int("resample", resample, 1)
    sampler = generator.sampler if resample == 1 else Resampled(generator.sampler, resample)
    return replace(generator, sampler=sampler, known=Known(x0, ~mask.to(x0.device)))


def between_pictures(
    generator: ImageGenerator, first: Tensor, last: Tensor, count: int, strength: float
) -> ImageGenerator:
    """Draw `count` images from `first` to `last` (uint8 [C, H, W]): Ho et al. (2020), section 5.3 and figure 8.

    Both are noised by `strength`, as in `edited`, with the same noise; mixed, they are the noised mixture of both.
    """
    count = checked_int("count", count, 2)
    share = torch.linspace(0, 1, count, device=generator.runtime.device)[:, None, None, None]
    mixed = torch.lerp(_x0(generator, first)[None], _x0(generator, last)[None], share)
    return replace(_shortened(generator, strength), start=NoisedPictures(mixed))


def between_samples(generator: ImageGenerator, first: int, last: int, count: int) -> ImageGenerator:
    """Draw `count` images from image `first` of the seed to image `last`: Song et al. (2021), DDIM, section 5.3."""
    count = checked_int("count", count, 2)
    for index in (first, last):
        if not 0 <= index < 2**63:
            raise InputError(f"{index} is no number of an image: they are counted from 0.")
    if first == last:
        raise InputError(f"there is nothing between image {first} and itself.")
    return replace(generator, start=BetweenImages(first, last, count))


def _shortened(generator: ImageGenerator, strength: float) -> ImageGenerator:
    """The first `strength` of the process, walked back in strides as long as those of the whole."""
    if not 0 < strength <= 1:
        raise InputError(f"a strength of {strength:g} is not more than 0 and at most 1.")
    process = generator.process
    timesteps = max(1, round(strength * process.timesteps))
    steps = math.ceil(generator.steps * timesteps / process.timesteps)
    return replace(generator, process=process.truncated(timesteps), steps=steps)


def _x0(generator: ImageGenerator, picture: Tensor) -> Tensor:
    if picture.dtype != torch.uint8 or tuple(picture.shape) != generator.image_shape:
        raise InputError(f"a picture must be uint8 {list(generator.image_shape)}, not {_described(picture)}.")
    return to_float(picture).to(generator.runtime.device)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
