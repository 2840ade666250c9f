"""The ancestral sampler: equality with diffusers for any number of steps, and exact moments on a Gaussian."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit.diffusion import Denoiser, GaussianDiffusion
from ddpmkit_plugins.ancestral import AncestralConfig
from ddpmkit_plugins.ancestral.sampler import AncestralSampler
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule

T = 50
THEIR_NAMES = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
MEAN, VARIANCE = 0.2, 0.15**2


def alpha_bar(timesteps: int = T) -> Tensor:
    return CosineSchedule(CosineConfig(), timesteps=timesteps).alphas_cumprod()


def in_float64(exact: Tensor, prediction: Prediction = "epsilon") -> GaussianDiffusion:
    """The process with buffers in float64."""
    process = GaussianDiffusion(exact, prediction)
    process.sqrt_alpha_bar, process.sqrt_one_minus_alpha_bar = exact.sqrt(), (1 - exact).sqrt()
    return process


def theirs(prediction: Prediction = "epsilon", *, clip: bool = True) -> DDPMScheduler:
    return DDPMScheduler(
        num_train_timesteps=T,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=THEIR_NAMES[prediction],
        clip_sample=clip,
    )


def theirs_in_float64(prediction: Prediction = "epsilon", *, clip: bool = True) -> DDPMScheduler:
    scheduler = theirs(prediction, clip=clip)
    scheduler.alphas_cumprod, scheduler.one = alpha_bar(), torch.ones((), dtype=torch.float64)
    return scheduler


class Noise:
    """The noise that diffusers samples from `generator(draw)`."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def generator(self, draw: int) -> torch.Generator:
        return torch.Generator().manual_seed(draw)

    def __call__(self, draw: int) -> Tensor:
        return torch.randn(2, 3, 4, 4, generator=self.generator(draw), dtype=self.dtype)


def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
    """Smooth and nonlinear; mixes pixels; depends on t."""
    return torch.sin(2 * x + 0.1 * t[:, None, None, None]) + 0.3 * x.roll(1, dims=-1)


def sampled_by(scheduler: DDPMScheduler, timesteps: list[int], noise: Noise) -> list[Tensor]:
    """x after each step of the scheduler."""
    scheduler.set_timesteps(timesteps=timesteps)
    x = noise(0)
    frames = [x]
    for draw, t in enumerate(timesteps, start=1):
        output = network(x, torch.full((2,), t), None)
        x = scheduler.step(output, t, x, generator=noise.generator(draw)).prev_sample
        frames.append(x)
    return frames


def largest_distance(ours: list[Tensor], others: list[Tensor]) -> float:
    """The largest distance between two runs, relative to the value if that is above 1."""
    return max(((a - b).abs() / b.abs().clamp(min=1)).max().item() for a, b in zip(ours, others, strict=True))


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("steps", [1, 2, 7, 23, T])
@pytest.mark.parametrize("clip", [True, False])
def test_any_number_of_steps_equals_diffusers(prediction: Prediction, steps: int, clip: bool) -> None:
    process, noise = in_float64(alpha_bar(), prediction), Noise(torch.float64)
    sampler = AncestralSampler(AncestralConfig(clip_x0=clip))
    ours = [frame.x for frame in sampler.sample(Denoiser(network, process), noise, steps)]
    scheduler = theirs_in_float64(prediction, clip=clip)
    assert largest_distance(ours, sampled_by(scheduler, process.sampling_timesteps(steps), noise)) < 1e-6


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_single_precision_equals_diffusers(prediction: Prediction) -> None:
    process, noise = GaussianDiffusion(alpha_bar(), prediction), Noise(torch.float32)
    frames = AncestralSampler(AncestralConfig()).sample(Denoiser(network, process), noise, T)
    ours = [frame.x for frame in frames]
    # Measured: 7e-6. diffusers has float32 coefficients too, so both sides round.
    assert largest_distance(ours, sampled_by(theirs(prediction), process.sampling_timesteps(T), noise)) < 5e-5


Moments = Callable[..., tuple[float, float]]


@pytest.fixture
def moments(gaussian_moments: Moments) -> Moments:
    sampler = AncestralSampler(AncestralConfig(clip_x0=False))
    return partial(gaussian_moments, sampler, mean=MEAN, variance=VARIANCE)


@pytest.mark.parametrize("steps", [1, 2, 13, T])
def test_mean_and_variance_of_a_gaussian_are_those_of_the_closed_form(moments: Moments, steps: int) -> None:
    """The slope of a step is that of the regression of x_s on x_t; its variance is that of q(x_s | x_t, x0)."""
    process = in_float64(alpha_bar())

    def x_variance(bar: float) -> float:
        return bar * VARIANCE + 1 - bar

    mean, variance = 0.0, 1.0
    for t, s in pairwise([*process.sampling_timesteps(steps), -1]):
        bar_t, bar_s = process.alpha_bar_at(t), process.alpha_bar_at(s)
        alpha = bar_t / bar_s
        slope = math.sqrt(alpha) * x_variance(bar_s) / x_variance(bar_t)
        mean = math.sqrt(bar_s) * MEAN + slope * (mean - math.sqrt(bar_t) * MEAN)
        added = 0.0 if s < 0 else 1 / (alpha / (1 - alpha) + 1 / (1 - bar_s))
        variance = slope**2 * variance + added
    assert moments(process, steps) == pytest.approx((mean, variance), rel=1e-9)


def test_two_thousand_steps_halve_the_error_of_a_thousand_on_a_gaussian(moments: Moments) -> None:
    """Each step omits the variance of x0 around its estimate: an error of first order in 1 / T."""
    mean, variance = moments(in_float64(alpha_bar(1000)), 1000)
    _, variance_of_two_thousand = moments(in_float64(alpha_bar(2000)), 2000)
    std, finer, true = math.sqrt(variance), math.sqrt(variance_of_two_thousand), math.sqrt(VARIANCE)
    assert mean == pytest.approx(MEAN, rel=1e-6)
    assert std == pytest.approx(true, rel=0.015)
    assert 2 * finer - std == pytest.approx(true, rel=1e-3)


@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_sampling_starts_at_zero_terminal_snr(prediction: Prediction) -> None:
    process = GaussianDiffusion(torch.cat([alpha_bar()[:-1], torch.zeros(1, dtype=torch.float64)]), prediction)
    frames = list(AncestralSampler(AncestralConfig()).sample(Denoiser(network, process), Noise(torch.float32), T))
    assert all(frame.x.isfinite().all() and frame.x0_hat.isfinite().all() for frame in frames)
    assert frames[0].x0_hat.abs().max() <= 1
