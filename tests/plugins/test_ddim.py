"""DDIM: equality with diffusers in float32 and with the ancestral sampler at eta = 1; exact moments on a Gaussian."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler
from pydantic import ValidationError
from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit.diffusion import Denoiser, GaussianDiffusion
from ddpmkit_plugins.ancestral import AncestralConfig
from ddpmkit_plugins.ancestral.sampler import AncestralSampler
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule
from ddpmkit_plugins.ddim import DdimConfig
from ddpmkit_plugins.ddim.sampler import DdimSampler

T = 50
THEIR_NAMES = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
MEAN, VARIANCE = 0.2, 0.15**2


def alpha_bar(timesteps: int = T) -> Tensor:
    return CosineSchedule(CosineConfig(), timesteps=timesteps).alphas_cumprod()


def in_float64(exact: Tensor) -> GaussianDiffusion:
    """The process with buffers in float64."""
    process = GaussianDiffusion(exact)
    process.sqrt_alpha_bar, process.sqrt_one_minus_alpha_bar = exact.sqrt(), (1 - exact).sqrt()
    return process


def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
    """Smooth and nonlinear; mixes pixels; depends on t."""
    return torch.sin(2 * x + 0.1 * t[:, None, None, None]) + 0.3 * x.roll(1, dims=-1)


def float32_noise(draw: int) -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(draw))


# Both sides round: diffusers is as far from the result in float64 as ddpmkit. The distance is largest for eps, of
# which the first step amplifies x0 by a thousand (measured: 2e-3, 3e-5 and 5e-6).
@pytest.mark.parametrize(("prediction", "tolerance"), [("epsilon", 1e-2), ("x0", 2e-4), ("v", 2e-5)])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_equals_diffusers_in_single_precision(prediction: Prediction, tolerance: float, eta: float) -> None:
    scheduler = DDIMScheduler(
        num_train_timesteps=T, beta_schedule="squaredcos_cap_v2", prediction_type=THEIR_NAMES[prediction]
    )
    scheduler.set_timesteps(T)
    x = float32_noise(0)
    process = GaussianDiffusion(alpha_bar(), prediction)
    sampler = DdimSampler(DdimConfig(eta=eta, keep_eps=True))
    frames = list(sampler.sample(Denoiser(network, process), float32_noise, T))
    worst = 0.0
    for draw, (frame, following) in enumerate(pairwise(frames), start=1):
        t = frame.t - 1
        noise = float32_noise(draw) if eta > 0 else None
        output = network(x, torch.full((2,), t), None)
        x = scheduler.step(output, t, x, eta=eta, variance_noise=noise).prev_sample
        worst = max(worst, (following.x - x).abs().max().item())
    assert worst < tolerance


@pytest.mark.parametrize("steps", [1, 7, T])
@pytest.mark.parametrize("clip_x0", [True, False])
def test_eta_1_is_the_ancestral_sampler(steps: int, clip_x0: bool) -> None:
    """Song et al. (2021), section 4.1: eta = 1 is DDPM; with clamping too, if eps is recomputed."""
    denoiser = Denoiser(network, in_float64(alpha_bar()))

    def noise(draw: int) -> Tensor:
        return float32_noise(draw).double()

    ddim = DdimSampler(DdimConfig(eta=1.0, clip_x0=clip_x0, keep_eps=False)).sample(denoiser, noise, steps)
    ancestral = AncestralSampler(AncestralConfig(clip_x0=clip_x0)).sample(denoiser, noise, steps)
    for ours, other in zip(ddim, ancestral, strict=True):
        assert ours.t == other.t
        # At the first step, this network is far outside the range.
        assert clip_x0 == bool(other.x0_hat.abs().max() <= 1) or ours.t < T
        torch.testing.assert_close((ours.x, ours.x0_hat), (other.x, other.x0_hat), rtol=1e-9, atol=1e-9)


def test_eta_0_requests_only_the_starting_noise() -> None:
    requested: list[int] = []

    def noise(draw: int) -> Tensor:
        requested.append(draw)
        return float32_noise(draw)

    list(DdimSampler(DdimConfig()).sample(Denoiser(network, GaussianDiffusion(alpha_bar())), noise, T))
    assert requested == [0]


Moments = Callable[..., tuple[float, float]]


@pytest.fixture
def moments(gaussian_moments: Moments, eta: float) -> Moments:
    sampler = DdimSampler(DdimConfig(eta=eta, clip_x0=False))
    return partial(gaussian_moments, sampler, mean=MEAN, variance=VARIANCE)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 13, T])
def test_mean_and_variance_of_a_gaussian_are_those_of_the_closed_form(moments: Moments, eta: float, steps: int) -> None:
    """x0_hat and eps are linear regressions on x_t, with slope covariance / variance of x_t."""
    process = in_float64(alpha_bar())
    mean, variance = 0.0, 1.0
    for t, s in pairwise([*process.sampling_timesteps(steps), -1]):
        bar_t, bar_s = process.alpha_bar_at(t), process.alpha_bar_at(s)
        x_variance = bar_t * VARIANCE + 1 - bar_t
        x0_slope, eps_slope = math.sqrt(bar_t) * VARIANCE / x_variance, math.sqrt(1 - bar_t) / x_variance
        alpha = bar_t / bar_s
        added = 0.0 if s < 0 else eta**2 / (alpha / (1 - alpha) + 1 / (1 - bar_s))
        slope = math.sqrt(bar_s) * x0_slope + math.sqrt(1 - bar_s - added) * eps_slope
        mean = math.sqrt(bar_s) * MEAN + slope * (mean - math.sqrt(bar_t) * MEAN)
        variance = slope**2 * variance + added
    assert moments(process, steps) == pytest.approx((mean, variance), rel=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_two_thousand_steps_halve_the_error_of_a_thousand_on_a_gaussian(moments: Moments, eta: float) -> None:
    mean, variance = moments(in_float64(alpha_bar(1000)), 1000)
    _, variance_of_two_thousand = moments(in_float64(alpha_bar(2000)), 2000)
    std, finer, true = math.sqrt(variance), math.sqrt(variance_of_two_thousand), math.sqrt(VARIANCE)
    assert mean == pytest.approx(MEAN, rel=1e-4)
    assert std == pytest.approx(true, rel=0.015)
    assert 2 * finer - std == pytest.approx(true, rel=1e-3)


@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_sampling_starts_at_zero_terminal_snr(prediction: Prediction) -> None:
    process = GaussianDiffusion(torch.cat([alpha_bar()[:-1], torch.zeros(1, dtype=torch.float64)]), prediction)
    for eta in (0.0, 1.0):
        frames = list(DdimSampler(DdimConfig(eta=eta)).sample(Denoiser(network, process), float32_noise, T))
        assert all(frame.x.isfinite().all() and frame.x0_hat.isfinite().all() for frame in frames)


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_eta_outside_0_to_1_is_rejected(eta: float) -> None:
    with pytest.raises(ValidationError, match="eta"):
        DdimConfig(eta=eta)
