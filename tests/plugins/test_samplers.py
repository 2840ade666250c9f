"""Ancestral sampling and DDIM: network calls and frames; DDIM in float64 equals diffusers on equal noise."""

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
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
    """Noise in float64, a function of `draw`."""

    def __init__(self, count: int) -> None:
        self.shape = (count, 3, 4, 4)

    def __call__(self, draw: int) -> Tensor:
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(100 + draw), dtype=torch.float64)


def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
    """Smooth and nonlinear; mixes pixels; depends on t."""
    return torch.sin(2 * x + 0.1 * t[:, None, None, None]) + 0.3 * x.roll(1, dims=-1)


def alpha_bar() -> Tensor:
    return CosineSchedule(CosineConfig(), timesteps=T).alphas_cumprod()


def process(prediction: Prediction = "epsilon") -> GaussianDiffusion:
    """In float64 throughout, so that no rounding hides an error."""
    exact = alpha_bar()
    diffusion = GaussianDiffusion(exact, prediction).double()
    diffusion.sqrt_alpha_bar, diffusion.sqrt_one_minus_alpha_bar = exact.sqrt(), (1 - exact).sqrt()
    return diffusion


def use_float64(scheduler: DDIMScheduler) -> None:
    """Replace the float32 coefficients of a scheduler of diffusers."""
    scheduler.alphas_cumprod = alpha_bar()
    scheduler.alphas = torch.cat([alpha_bar()[:1], alpha_bar()[1:] / alpha_bar()[:-1]])
    scheduler.betas = 1 - scheduler.alphas
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [T, 8])
@pytest.mark.parametrize("keep_eps", [True, False])
def test_ddim_equals_diffusers(prediction: Prediction, eta: float, steps: int, keep_eps: bool) -> None:
    scheduler = DDIMScheduler(
        num_train_timesteps=T,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=THEIR_NAMES[prediction],
        clip_sample=True,
    )
    use_float64(scheduler)
    ours = process(prediction)
    times = ours.sampling_timesteps(steps)
    noise = Noise(2)
    x = noise(0)
    sampler = DdimSampler(DdimConfig(eta=eta, keep_eps=keep_eps))
    frames = list(sampler.sample(Denoiser(network, ours), noise, steps))
    assert len(frames) == steps + 1
    for draw, (frame, t) in enumerate(zip(frames, times, strict=False), start=1):
        torch.testing.assert_close(frame.x, x, rtol=0, atol=1e-6)
        s = times[draw] if draw < steps else -1
        # diffusers has one stride for all steps, so it is set anew for each.
        scheduler.num_inference_steps = 1
        scheduler.config.num_train_timesteps = t - s
        extra: dict[str, Any] = {"variance_noise": noise(draw)} if eta > 0 else {}
        extra["use_clipped_model_output"] = not keep_eps
        x = scheduler.step(network(x, torch.full((2,), t), None), t, x, eta=eta, **extra).prev_sample
    torch.testing.assert_close(frames[-1].x, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sampler", [AncestralSampler(AncestralConfig()), DdimSampler(DdimConfig(eta=1.0))])
@pytest.mark.parametrize("steps", [1, 7, T])
def test_network_calls_is_the_number_of_network_calls(sampler: Sampler, steps: int) -> None:
    calls: list[int] = []

    def counted(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        calls.append(int(t[0]))
        return network(x, t, label)

    frames = list(sampler.sample(Denoiser(counted, process()), Noise(1), steps))
    assert len(calls) == sampler.network_calls(steps) == len(frames) - 1
    assert frames[0].t == T
    assert frames[-1].t == 0
    assert torch.equal(frames[0].x, Noise(1)(0))


def test_images_explode_at_fifty_steps_without_the_clamp() -> None:
    def wild(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return 0.9 * x

    *_, clamped = AncestralSampler(AncestralConfig()).sample(Denoiser(wild, process()), Noise(2), T)
    first = next(iter(AncestralSampler(AncestralConfig(clip_x0=False)).sample(Denoiser(wild, process()), Noise(2), T)))
    assert clamped.x.abs().max() <= 1
    assert first.x0_hat.abs().max() > 100
