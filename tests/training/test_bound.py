"""The variational bound against torch's own divergence and the sum over all pixels that there are."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit.training.bound import variational_bound
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule


def process(timesteps: int = 20) -> GaussianDiffusion:
    return GaussianDiffusion.from_schedule(CosineSchedule(CosineConfig(), timesteps=timesteps))


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("t", [1, 7, 19])
@pytest.mark.parametrize("side", [-1.0, 0.0, 1.0])
def test_a_later_term_is_the_divergence_of_two_gaussians(t: int, side: float) -> None:
    gaussian = process()
    x0, x0_hat, x = some(2, 3, 4, 4), some(2, 3, 4, 4, seed=1), some(2, 3, 4, 4, seed=2)
    true, guessed = gaussian.posterior(x0, x, t, t - 1), gaussian.posterior(x0_hat, x, t, t - 1)
    beta = 1 - gaussian.alpha_bar_at(t) / gaussian.alpha_bar_at(t - 1)
    # Eq. 15: the geometric mean of both variances is half way.
    variance = {-1.0: true.variance, 0.0: math.sqrt(true.variance * beta), 1.0: beta}[side]
    divergence = kl_divergence(Normal(true.mean, math.sqrt(true.variance)), Normal(guessed.mean, math.sqrt(variance)))
    expected = 20 * divergence.flatten(1).mean(1) / math.log(2)
    found = variational_bound(gaussian, x0, x, torch.tensor([t, t]), x0_hat, torch.full_like(x0, side))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_at_the_first_step_the_pixels_of_one_place_have_probability_1_together() -> None:
    gaussian = process()
    values = (torch.arange(256) / 127.5 - 1)[:, None, None, None]
    x, x0_hat, spread = (torch.full((256, 1, 1, 1), value) for value in (0.31, 0.28, 0.4))
    bits = variational_bound(gaussian, values, x, torch.zeros(256, dtype=torch.int64), x0_hat, spread) / 20
    # What is less likely than 1e-12 is counted as that.
    assert (2**-bits).sum().item() == pytest.approx(1, abs=1e-5)


def test_the_best_spread_is_where_the_variance_is_the_posteriors() -> None:
    """With the right mean, the bound is least, and 0, at the true variance: spread -1."""
    gaussian = process()
    x0, x = some(2, 3, 4, 4), some(2, 3, 4, 4, seed=2)
    t = torch.tensor([3, 12])
    bounds = [variational_bound(gaussian, x0, x, t, x0, torch.full_like(x0, side)) for side in (-1.0, -0.5, 0.5, 1.0)]
    assert bounds[0].abs().max() < 1e-3
    assert all(bool((first < second).all()) for first, second in pairwise(bounds))


def test_a_process_of_one_step_has_a_finite_bound() -> None:
    x0 = some(2, 3, 4, 4)
    bound = variational_bound(process(1), x0, x0, torch.zeros(2, dtype=torch.int64), x0, torch.zeros_like(x0))
    assert torch.isfinite(bound).all()
