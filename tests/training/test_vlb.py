"""The variational bound, compared with torch's KL divergence and with sums over all pixel values."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit.training.vlb import variational_bound
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule
from ddpmkit_plugins.edm import EdmConfig
from ddpmkit_plugins.edm.schedule import EdmSchedule
from ddpmkit_plugins.linear import LinearConfig
from ddpmkit_plugins.linear.schedule import LinearSchedule


def process(timesteps: int = 20) -> GaussianDiffusion:
    return GaussianDiffusion.from_schedule(CosineSchedule(CosineConfig(), timesteps=timesteps))


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("t", [1, 7, 19])
@pytest.mark.parametrize("side", [-1.0, 0.0, 1.0])
def test_the_term_of_a_later_step_is_the_divergence_of_two_gaussians(t: int, side: float) -> None:
    gaussian = process()
    x0, x0_hat, x = some(2, 3, 4, 4), some(2, 3, 4, 4, seed=1), some(2, 3, 4, 4, seed=2)
    true, guessed = gaussian.posterior(x0, x, t, t - 1), gaussian.posterior(x0_hat, x, t, t - 1)
    beta = 1 - gaussian.alpha_bar_at(t) / gaussian.alpha_bar_at(t - 1)
    # Eq. 15: the geometric mean of both variances is half way.
    variance = {-1.0: true.variance, 0.0: math.sqrt(true.variance * beta), 1.0: beta}[side]
    divergence = kl_divergence(Normal(true.mean, math.sqrt(true.variance)), Normal(guessed.mean, math.sqrt(variance)))
    expected = 20 * divergence.flatten(1).mean(1) / math.log(2)
    found = variational_bound(gaussian, x0, torch.tensor([t, t]), x0_hat, torch.full_like(x0, side))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_probabilities_of_all_pixel_values_sum_to_1_at_the_first_step() -> None:
    gaussian = process()
    values = (torch.arange(256) / 127.5 - 1)[:, None, None, None]
    x0_hat, spread = (torch.full((256, 1, 1, 1), value) for value in (0.28, 0.4))
    bits = variational_bound(gaussian, values, torch.zeros(256, dtype=torch.int64), x0_hat, spread) / 20
    # What is less likely than 1e-12 is counted as that.
    assert (2**-bits).sum().item() == pytest.approx(1, abs=1e-5)


def test_the_bound_is_least_at_the_posterior_variance() -> None:
    """With the true mean, the bound has its minimum, 0, at the true variance: spread -1."""
    gaussian = process()
    x0 = some(2, 3, 4, 4)
    t = torch.tensor([3, 12])
    bounds = [variational_bound(gaussian, x0, t, x0, torch.full_like(x0, side)) for side in (-1.0, -0.5, 0.5, 1.0)]
    assert bounds[0].abs().max() < 1e-3
    assert all(bool((first < second).all()) for first, second in pairwise(bounds))


SHARP = {
    "edm, T = 1000": EdmSchedule(EdmConfig(), timesteps=1000),
    "edm, T = 10,000": EdmSchedule(EdmConfig(), timesteps=10_000),
    "edm from 1e-5": EdmSchedule(EdmConfig(sigma_min=1e-5), timesteps=1000),
    "linear, T = 4000": LinearSchedule(LinearConfig(), timesteps=4000),
}


@pytest.mark.parametrize("name", SHARP)
@pytest.mark.parametrize("side", [-1.0, 0.3, 1.0])
def test_the_first_steps_of_a_long_process_are_accurate(name: str, side: float) -> None:
    """alpha_t and alpha_bar are 1 - 4e-6 there or nearer to 1, which float32 does not resolve."""
    gaussian = GaussianDiffusion.from_schedule(SHARP[name])
    bar = SHARP[name].alphas_cumprod()
    t = torch.tensor([1, 2, 3, 10])
    x0, x0_hat = some(4, 3, 4, 4), some(4, 3, 4, 4) + 1e-3 * some(4, 3, 4, 4, seed=1)
    beta, before, now = (each[:, None, None, None] for each in (1 - bar[t] / bar[t - 1], 1 - bar[t - 1], 1 - bar[t]))
    true = beta * before / now
    learned = torch.exp((side + 1) / 2 * beta.log() + (1 - side) / 2 * true.log())
    means = [(1 - before).sqrt() * beta / now * estimate.double() for estimate in (x0, x0_hat)]
    divergence = kl_divergence(Normal(means[0], true.sqrt()), Normal(means[1], learned.sqrt()))
    expected = len(bar) * divergence.flatten(1).mean(1) / math.log(2)
    found = variational_bound(gaussian, x0, t, x0_hat, torch.full_like(x0, side))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)
    x = some(4, 3, 4, 4, seed=2)
    one_by_one = [gaussian.posterior(x0[i], x[i], step, step - 1).mean for i, step in enumerate(t.tolist())]
    torch.testing.assert_close(gaussian.posterior_mean(x0, x, t), torch.stack(one_by_one))


@pytest.mark.parametrize("away", [0.0, 3.0, 6.0, -3.0, -6.0])
def test_pixels_above_and_below_the_mean_have_the_same_likelihood(away: float) -> None:
    """Compared with the error function in float64; above the mean, both bounds of a pixel round to 1 in float32."""
    gaussian = process()
    std = math.sqrt(1 - gaussian.alpha_bar_at(0))  # beta of the first step: spread 1
    value = torch.full((1, 1, 1, 1), 0.1)
    found = variational_bound(gaussian, value, torch.tensor([0]), value - away * std, torch.ones_like(value)).item()
    upper, lower = (math.erfc((abs(away) - side / 255 / std) / math.sqrt(2)) / 2 for side in (1, -1))
    assert found == pytest.approx(-20 * math.log2(upper - lower), rel=1e-3)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "edm"])
@pytest.mark.parametrize("timesteps", [1, 2, 10_000])
def test_the_bound_and_its_gradient_are_finite_for_any_estimate(schedule: str, timesteps: int) -> None:
    made = {
        "cosine": CosineSchedule(CosineConfig(), timesteps=timesteps),
        "linear": LinearSchedule(LinearConfig(), timesteps=timesteps),
        "edm": EdmSchedule(EdmConfig(sigma_min=1e-4), timesteps=timesteps),
    }
    gaussian = GaussianDiffusion.from_schedule(made[schedule])
    t = torch.tensor([0, min(1, timesteps - 1), timesteps // 2, timesteps - 1])
    for x0 in (some(4, 3, 4, 4), torch.ones(4, 3, 4, 4), -torch.ones(4, 3, 4, 4)):
        spread = some(4, 3, 4, 4, seed=1).requires_grad_()
        bound = variational_bound(gaussian, x0, t, 1e3 * some(4, 3, 4, 4, seed=2), spread)
        (slope,) = torch.autograd.grad(bound.sum(), spread)
        assert bound.isfinite().all()
        assert slope.isfinite().all()


def test_a_process_of_one_step_has_the_variance_of_its_noise() -> None:
    """No earlier step has a posterior to interpolate with: both ends of the range are beta."""
    gaussian, t = process(1), torch.zeros(1, dtype=torch.int64)
    beta = 1 - gaussian.alpha_bar_at(0)
    for side in (-1.0, 0.5, 1.0):
        found = gaussian.learned_log_variance(torch.full((1, 1, 1, 1), side), t).item()
        assert found == pytest.approx(math.log(beta), rel=1e-6, abs=1e-6)
