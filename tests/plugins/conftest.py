import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ddpmkit.contracts import Sampler
from ddpmkit.diffusion import Denoiser, GaussianDiffusion

GaussianMoments = Callable[..., tuple[float, float]]


class Impulses:
    """Noise for images of one pixel: image 0 has none; image i has 1 in draw i - 1, and 0 in all others."""

    def __init__(self, draws: int) -> None:
        self.draws = draws

    def __call__(self, draw: int) -> Tensor:
        noise = torch.zeros(self.draws + 1, 1, 1, 1, dtype=torch.float64)
        noise[draw + 1] = 1
        return noise


@pytest.fixture
def gaussian_moments() -> GaussianMoments:
    """Compute mean and variance of the samples if the data are Gaussian.

    They have no sampling error: with the exact eps, each step is affine in the noise.
    """

    def moments(
        sampler: Sampler, process: GaussianDiffusion, steps: int, *, mean: float, variance: float
    ) -> tuple[float, float]:
        def exact(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
            bar = process.alpha_bar_at(int(t[0]))
            return math.sqrt(1 - bar) * (x - math.sqrt(bar) * mean) / (bar * variance + 1 - bar)

        *_, last = sampler.sample(Denoiser(exact, process), Impulses(steps), steps)
        middle, *shifted = last.x.flatten().tolist()
        return middle, sum((value - middle) ** 2 for value in shifted)

    return moments
