"""What the reverse process begins with: pure noise, noised pictures, or noise between that of two images.

Samplers take draw 0 of a noise source as x_T, so each of these is a noise source. It does not know which sampler asks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ddpmkit.contracts import NoiseSource
from ddpmkit.diffusion import GaussianDiffusion

__all__ = ["BetweenImages", "NoisedPictures", "Start", "pure_noise"]

NoiseOf = Callable[[Sequence[int]], NoiseSource]
"""The noise of the images with these indices, under one seed."""


class Start(Protocol):
    """From the noise of any image to the noise that a batch is drawn from."""

    def __call__(self, indices: Sequence[int], noise_of: NoiseOf, process: GaussianDiffusion, /) -> NoiseSource:
        """The noise source of the images `indices`, whose draw 0 is x_T of `process`."""
        ...


def pure_noise(indices: Sequence[int], noise_of: NoiseOf, _process: GaussianDiffusion) -> NoiseSource:
    """Each image its own noise, as it is."""
    return noise_of(indices)


@dataclass(frozen=True)
class NoisedPictures:
    """Pictures noised to the end of the process: Meng et al. (2022), "SDEdit" (https://arxiv.org/abs/2108.01073).

    With P pictures, image i begins at picture i modulo P under the noise of image i div P: a row of P images shares its
    noise.
    """

    pictures: Tensor
    """Float [P, C, H, W] in [-1, 1], on the device of the process."""

    def __call__(self, indices: Sequence[int], noise_of: NoiseOf, process: GaussianDiffusion) -> NoiseSource:
        """x_T = sqrt(alpha_bar) picture + sqrt(1 - alpha_bar) noise at the last timestep of `process`."""
        count = len(self.pictures)
        noise = noise_of([index // count for index in indices])
        x0 = self.pictures[[index % count for index in indices]]
        last = torch.full((len(indices),), process.timesteps - 1, device=x0.device)
        return _Begun(noise, process.q_sample(x0, last, noise(0)))


@dataclass(frozen=True)
class BetweenImages:
    """`count` images from image `first` to image `last`, both included: Song et al. (2021), DDIM, section 5.3.

    Not x_T alone but every draw lies between those of the two, so both ends are these images with any sampler.
    """

    first: int
    last: int
    count: int
    """2 or more."""

    def __call__(self, indices: Sequence[int], noise_of: NoiseOf, _process: GaussianDiffusion) -> NoiseSource:
        """Every draw on the arc between the draws of both ends."""
        share = torch.tensor([index / (self.count - 1) for index in indices], dtype=torch.float64)
        return _Arc(noise_of([self.first]), noise_of([self.last]), share)


@dataclass(frozen=True)
class _Begun:
    """A noise source whose draw 0 is given."""

    noise: NoiseSource
    start: Tensor

    def __call__(self, draw: int) -> Tensor:
        return self.start if draw == 0 else self.noise(draw)


@dataclass(frozen=True)
class _Arc:
    """Spherical interpolation, which keeps the length of noise: Song et al. (2021), appendix D.5."""

    first: NoiseSource
    last: NoiseSource
    share: Tensor
    """float64 [B]; 0 is the first, 1 the last."""

    def __call__(self, draw: int) -> Tensor:
        first, last = self.first(draw), self.last(draw)
        angle = torch.acos(torch.cosine_similarity(first.double().flatten(), last.double().flatten(), dim=0))
        share = self.share.to(first.device)[:, None, None, None]
        of_first, of_last = (torch.sin(part * angle) / torch.sin(angle) for part in (1 - share, share))
        return of_first.to(first.dtype) * first + of_last.to(first.dtype) * last
