"""The start of the reverse process: pure noise, noised images, or interpolated noise.

A sampler takes draw 0 of its noise source as x_T, so each of these three is a noise source.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ddpmkit.contracts import NoiseSource
from ddpmkit.diffusion import GaussianDiffusion

__all__ = ["InitialNoise", "InterpolatedNoise", "NoisedImages", "pure_noise"]

NoiseOf = Callable[[Sequence[int]], NoiseSource]
"""The noise of the images with these indices, for one seed."""


class InitialNoise(Protocol):
    """Makes the noise source of a batch from the noise of single images."""

    def __call__(self, indices: Sequence[int], noise_of: NoiseOf, process: GaussianDiffusion, /) -> NoiseSource:
        """Return the noise source of the images `indices`; draw 0 is x_T of `process`, float32 [B, C, H, W]."""
        ...


def pure_noise(indices: Sequence[int], noise_of: NoiseOf, _process: GaussianDiffusion) -> NoiseSource:
    """Return the noise of each image, unchanged: ordinary samples."""
    return noise_of(indices)


@dataclass(frozen=True)
class NoisedImages:
    """Images, noised to the last timestep: Meng et al. (2022), "SDEdit" (https://arxiv.org/abs/2108.01073).

    With P images, generated image i starts from image i modulo P and has the noise of index i // P, so each row of P
    images shares its noise.
    """

    images: Tensor
    """Float [P, C, H, W] in [-1, 1], on the device of the process."""

    def __call__(self, indices: Sequence[int], noise_of: NoiseOf, process: GaussianDiffusion) -> NoiseSource:
        """Return a source with x_T = sqrt(alpha_bar) image + sqrt(1 - alpha_bar) noise, the last x_t of `process`."""
        count = len(self.images)
        noise = noise_of([index // count for index in indices])
        x0 = self.images[[index % count for index in indices]]
        last = torch.full((len(indices),), process.timesteps - 1, device=x0.device)
        return _WithInitialNoise(noise, process.q_sample(x0, last, noise(0)))


@dataclass(frozen=True)
class InterpolatedNoise:
    """The noise of `count` images from image `first` to image `last`, inclusive: Song et al. (2021), DDIM, section 5.3.

    x_T and every further draw are interpolated, so both ends are these images with stochastic samplers as well.
    """

    first: int
    last: int
    count: int
    """2 or more."""

    def __call__(self, indices: Sequence[int], noise_of: NoiseOf, process: GaussianDiffusion) -> NoiseSource:
        """Return a source whose draws are interpolated on the arc between those of both ends."""
        shares = [index / (self.count - 1) for index in indices]
        # Sent to the device here, once, not with each draw.
        share = torch.tensor(shares, dtype=torch.float64, device=process.alpha_bar.device)
        return _SphericalNoise(noise_of([self.first]), noise_of([self.last]), share)


@dataclass(frozen=True)
class _WithInitialNoise:
    """A noise source with another x_T, its draw 0."""

    noise: NoiseSource
    initial: Tensor

    def __call__(self, draw: int) -> Tensor:
        return self.initial if draw == 0 else self.noise(draw)


@dataclass(frozen=True)
class _SphericalNoise:
    """Spherical interpolation, which preserves the norm of the noise: Song et al. (2021), appendix D.5."""

    first: NoiseSource
    last: NoiseSource
    share: Tensor
    """float64 [B], on the device of the noise; 0 is the first, 1 the last."""

    def __call__(self, draw: int) -> Tensor:
        first, last = self.first(draw), self.last(draw)
        angle = torch.acos(torch.cosine_similarity(first.double().flatten(), last.double().flatten(), dim=0))
        share = self.share[:, None, None, None]
        of_first, of_last = (torch.sin(part * angle) / torch.sin(angle) for part in (1 - share, share))
        return of_first.to(first.dtype) * first + of_last.to(first.dtype) * last
