"""The contract of a sampler: it turns noise into images, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ddpmkit.contracts.denoiser import Denoised, Denoiser, DiffusionProcess, Posterior

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Denoised", "Denoiser", "DiffusionProcess", "NoiseSource", "Posterior", "Sampler", "SamplerState"]


class Sampler(Protocol):
    """The reverse process, from noise to image. Built with its config only."""

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Yield a `SamplerState` before each step, and one for the finished image: steps + 1 in all.

        The first has t = T and x = noise(0). The last has t = 0 and x0_hat = x. All random numbers must come from
        `noise`. Raises InputError if `steps` is not in 1 .. T.
        """
        ...

    def network_calls(self, steps: int) -> int:
        """Return how many times `sample` calls the denoiser for one batch."""
        ...


class SamplerState(NamedTuple):
    """One frame of the reverse process."""

    t: int
    """The number of noising steps in `x`, as in Ho et al. (2020): T for pure noise, t + 1 at timestep t
    of the process, 0 for the finished image."""
    x: Tensor
    """Float [B, C, H, W]."""
    x0_hat: Tensor
    """The estimate of the clean image at `x`, float [B, C, H, W]. At t = 0 it is `x` itself."""


class NoiseSource(Protocol):
    """Standard normal noise for a batch. It depends on seed, image index and `draw`, not on the other images."""

    def __call__(self, draw: int) -> Tensor:
        """Return noise, float32 [B, C, H, W].

        `draw = 0` returns the starting noise x_T. Every other number returns independent noise. The same number always
        returns the same noise.
        """
        ...
