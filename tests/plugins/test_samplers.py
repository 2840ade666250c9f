"""Whole trajectories against diffusers on equal noise, and both samplers against the closed form of a Gaussian."""

import math

import diffusers.schedulers.scheduling_ddpm
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from ddpmkit.contracts import Prediction, Sampler
from ddpmkit.diffusion import Denoiser, GaussianDiffusion
from ddpmkit_plugins.ancestral import AncestralConfig
from ddpmkit_plugins.ancestral.sampler import AncestralSampler
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule
from ddpmkit_plugins.ddim import DdimConfig
from ddpmkit_plugins.ddim.sampler import DdimSampler

THEIR_NAMES = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
T = 50


class Noise:
    """Float64 noise by draw."""

    def __init__(self, count: int, size: int = 4) -> None:
        self.shape = (count, 3, size, size)

    def __call__(self, draw: int) -> Tensor:
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(100 + draw), dtype=torch.float64)


def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
    """Something smooth, nonlinear, different at every t."""
    return torch.sin(2 * x + 0.1 * t[:, None, None, None]) + 0.3 * x.roll(1, dims=-1)


def alpha_bar(timesteps: int = T) -> Tensor:
    return CosineSchedule(CosineConfig(), timesteps=timesteps).alphas_cumprod()


def process(prediction: Prediction = "epsilon", timesteps: int = T) -> GaussianDiffusion:
    """In float64 throughout, so that rounding hides nothing."""
    exact = alpha_bar(timesteps)
    made = GaussianDiffusion(exact, prediction).double()
    made.sqrt_alpha_bar, made.sqrt_one_minus_alpha_bar = exact.sqrt(), (1 - exact).sqrt()
    return made


def exactly(scheduler: DDPMScheduler | DDIMScheduler) -> None:
    """Give a scheduler of diffusers the coefficients in float64; it keeps float32 of its own."""
    scheduler.alphas_cumprod = alpha_bar()
    scheduler.alphas = torch.cat([alpha_bar()[:1], alpha_bar()[1:] / alpha_bar()[:-1]])
    scheduler.betas = 1 - scheduler.alphas
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    if isinstance(scheduler, DDIMScheduler):
        scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)


@pytest.fixture
def their_noise(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What diffusers' DDPM step draws next."""
    queue: list[Tensor] = []
    monkeypatch.setattr(diffusers.schedulers.scheduling_ddpm, "randn_tensor", lambda *args, **keys: queue.pop(0))
    return queue


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_ancestral_walks_as_diffusers_does(prediction: Prediction, their_noise: list[Tensor]) -> None:
    scheduler = DDPMScheduler(
        num_train_timesteps=T,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=THEIR_NAMES[prediction],
        clip_sample=True,
    )
    exactly(scheduler)
    noise = Noise(2)
    x = noise(0)
    sampler = AncestralSampler(AncestralConfig())
    for draw, frame in enumerate(sampler.sample(Denoiser(network, process(prediction)), noise, T), start=1):
        torch.testing.assert_close(frame.x, x, rtol=0, atol=1e-6)
        if frame.t == 0:
            return
        their_noise[:] = [noise(draw)]
        t = frame.t - 1
        x = scheduler.step(network(x, torch.full((2,), t), None), t, x).prev_sample
    pytest.fail("the last frame has t = 0")


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [T, 8])
def test_ddim_walks_as_diffusers_does(prediction: Prediction, eta: float, steps: int) -> None:
    scheduler = DDIMScheduler(
        num_train_timesteps=T,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=THEIR_NAMES[prediction],
        clip_sample=True,
    )
    exactly(scheduler)
    ours = process(prediction)
    times = ours.sampling_timesteps(steps)
    noise = Noise(2)
    x = noise(0)
    frames = list(DdimSampler(DdimConfig(eta=eta)).sample(Denoiser(network, ours), noise, steps))
    assert len(frames) == steps + 1
    for draw, (frame, t) in enumerate(zip(frames, times, strict=False), start=1):
        torch.testing.assert_close(frame.x, x, rtol=0, atol=1e-6)
        s = times[draw] if draw < steps else -1
        # diffusers steps by a constant stride: tell it the one of this step.
        scheduler.num_inference_steps = 1
        scheduler.config.num_train_timesteps = t - s
        extra = {"variance_noise": noise(draw)} if eta > 0 else {}
        x = scheduler.step(network(x, torch.full((2,), t), None), t, x, eta=eta, **extra).prev_sample
    torch.testing.assert_close(frames[-1].x, x, rtol=0, atol=1e-6)


def test_in_single_precision_the_walks_stay_together(their_noise: list[Tensor]) -> None:
    scheduler = DDPMScheduler(num_train_timesteps=T, beta_schedule="squaredcos_cap_v2", clip_sample=True)
    single = GaussianDiffusion(alpha_bar())

    def noise(draw: int) -> Tensor:
        return Noise(2)(draw).float()

    x = noise(0)
    for draw, frame in enumerate(
        AncestralSampler(AncestralConfig()).sample(Denoiser(network, single), noise, T), start=1
    ):
        torch.testing.assert_close(frame.x, x, rtol=0, atol=1e-3)
        if frame.t > 0:
            their_noise[:] = [noise(draw)]
            x = scheduler.step(network(x, torch.full((2,), frame.t - 1), None), frame.t - 1, x).prev_sample


MEAN, STD = 0.2, 0.15


class Exact:
    """E[eps | x_t] for N(MEAN, STD^2) data: eps and x_t are jointly Gaussian."""

    def __init__(self, diffusion: GaussianDiffusion) -> None:
        self.diffusion = diffusion

    def gain(self, t: int) -> tuple[float, float]:
        """eps_hat = gain (x_t - centre)."""
        bar = self.diffusion.alpha_bar_at(t)
        return math.sqrt(1 - bar) / (bar * STD**2 + 1 - bar), math.sqrt(bar) * MEAN

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        gain, centre = self.gain(int(t[0]))
        return gain * (x - centre)


def moments(sampler: Sampler, diffusion: GaussianDiffusion, steps: int) -> tuple[float, float, int]:
    noise = Noise(400, size=8)
    *_, last = sampler.sample(Denoiser(Exact(diffusion), diffusion), noise, steps)
    return last.x.mean().item(), last.x.std().item(), last.x.numel()


@pytest.mark.parametrize("sampler", [AncestralSampler(AncestralConfig()), DdimSampler(DdimConfig())])
def test_a_gaussian_comes_back_with_its_mean_and_variance(sampler: Sampler) -> None:
    diffusion = process(timesteps=1000)
    mean, std, count = moments(sampler, diffusion, 1000)
    assert mean == pytest.approx(MEAN, abs=4 * STD / math.sqrt(count) + 1e-4)
    # Sampling error of a standard deviation is std / sqrt(2 n); a thousand steps lose less than half a percent of it.
    assert std == pytest.approx(STD, abs=4 * STD / math.sqrt(2 * count) + 0.005 * STD)


@pytest.mark.parametrize("eta", [None, 0.0, 0.6], ids=["ancestral", "ddim", "ddim-0.6"])
def test_fifty_steps_give_exactly_what_the_recursion_of_mean_and_variance_gives(eta: float | None) -> None:
    """Each step is affine in x, so that mean and variance can be carried along in closed form; nothing is clipped."""
    diffusion = process()
    exact = Exact(diffusion)
    mean, variance = 0.0, 1.0
    for t in range(T - 1, -1, -1):
        bar_t, bar_s = diffusion.alpha_bar_at(t), diffusion.alpha_bar_at(t - 1)
        gain, centre = exact.gain(t)
        # x0_hat = a x + b, eps_hat = gain x - gain centre
        a, b = (
            (1 - math.sqrt(1 - bar_t) * gain) / math.sqrt(bar_t),
            math.sqrt(1 - bar_t) * gain * centre / math.sqrt(bar_t),
        )
        beta_tilde = (1 - bar_s) / (1 - bar_t) * (1 - bar_t / bar_s)
        if eta is None:
            on_x0 = math.sqrt(bar_s) * (1 - bar_t / bar_s) / (1 - bar_t)
            on_x = math.sqrt(bar_t / bar_s) * (1 - bar_s) / (1 - bar_t)
            slope, shift, added = on_x0 * a + on_x, on_x0 * b, beta_tilde
        else:
            added = eta**2 * beta_tilde
            on_eps = math.sqrt(max(0.0, 1 - bar_s - added))
            slope, shift = math.sqrt(bar_s) * a + on_eps * gain, math.sqrt(bar_s) * b - on_eps * gain * centre
        mean, variance = slope * mean + shift, slope**2 * variance + added
    sampler = AncestralSampler(AncestralConfig()) if eta is None else DdimSampler(DdimConfig(eta=eta))
    found_mean, found_std, count = moments(sampler, diffusion, T)
    std = math.sqrt(variance)
    assert found_mean == pytest.approx(mean, abs=4 * std / math.sqrt(count))
    assert found_std == pytest.approx(std, abs=4 * std / math.sqrt(2 * count))


@pytest.mark.parametrize("sampler", [AncestralSampler(AncestralConfig()), DdimSampler(DdimConfig(eta=1.0))])
@pytest.mark.parametrize("steps", [1, 7, T])
def test_it_asks_the_network_as_often_as_it_says(sampler: Sampler, steps: int) -> None:
    calls: list[int] = []

    def counted(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        calls.append(int(t[0]))
        return network(x, t, label)

    frames = list(sampler.sample(Denoiser(counted, process()), Noise(1), steps))
    assert len(calls) == sampler.network_calls(steps) == len(frames) - 1
    assert frames[0].t == T
    assert frames[-1].t == 0
    assert torch.equal(frames[0].x, Noise(1)(0))


def test_without_the_clamp_images_explode_at_fifty_steps() -> None:
    def wild(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return 0.9 * x

    *_, kept = AncestralSampler(AncestralConfig()).sample(Denoiser(wild, process()), Noise(2), T)
    first = next(iter(AncestralSampler(AncestralConfig(clip_x0=False)).sample(Denoiser(wild, process()), Noise(2), T)))
    assert kept.x.abs().max() <= 1
    assert first.x0_hat.abs().max() > 100
