import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ddpmkit.contracts import Sampler
from ddpmkit.diffusion import Denoiser, GaussianDiffusion

GaussianMoments = Callable[..., tuple[float, float]]


class Impulses:
    """Images of one pixel: the first sees no noise at all, the image after it 1 in draw 0, the next 1 in draw 1, ..."""

    def __init__(self, draws: int) -> None:
        self.draws = draws

    def __call__(self, draw: int) -> Tensor:
        noise = torch.zeros(self.draws + 1, 1, 1, 1, dtype=torch.float64)
        noise[draw + 1] = 1
        return noise


@pytest.fixture
def gaussian_moments() -> GaussianMoments:
    """Mean and variance of what is sampled where the data are a Gaussian; without sampling error, since with the exact
    eps the steps are affine in the noise."""

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
