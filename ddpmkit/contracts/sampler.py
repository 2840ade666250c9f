"""The contract of a sampler, which asks the network through a `Denoiser`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ddpmkit.contracts.denoiser import Denoised, Denoiser, DiffusionProcess, Posterior

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Denoised", "Denoiser", "DiffusionProcess", "NoiseSource", "Posterior", "Sampler", "SamplerState"]


class Sampler(Protocol):
    """The reverse process, from noise to image. Built with its config alone."""

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Yield frames from (T, x_T, ...) down to (0, x_0, x_0): one before each step, and the finished image.

        `steps` is 1 .. T; InputError when it is not. All randomness comes from `noise`.
        """
        ...

    def network_calls(self, steps: int) -> int:
        """How many times `sample` asks the denoiser for one batch."""
        ...


class SamplerState(NamedTuple):
    """One frame of the reverse process."""

    t: int
    """The noising steps still in `x`, as in Ho et al. (2020): T is pure noise, 0 the finished image."""
    x: Tensor
    """Float [B, C, H, W]."""
    x0_hat: Tensor
    """Float [B, C, H, W], the clean image as estimated at `x` (at t = 0: `x` itself)."""


class NoiseSource(Protocol):
    """Standard normal noise that is a function of (seed, image index, draw), whatever the batch."""

    def __call__(self, draw: int) -> Tensor:
        """Float32 [B, C, H, W]. Draw 0 is the starting noise x_T; a sampler numbers its further draws as it likes."""
        ...
