"""Learned variance: the sampler compared with diffusers, and the gradients of the loss."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from ddpmkit.diffusion import Denoiser, GaussianDiffusion
from ddpmkit.runtime import Runtime
from ddpmkit.training.objective import NoisedBatch, Objective
from ddpmkit_plugins.ancestral import AncestralConfig
from ddpmkit_plugins.ancestral.sampler import AncestralSampler
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule
from ddpmkit_plugins.iddpm_hybrid import IddpmHybridConfig
from ddpmkit_plugins.iddpm_hybrid.loss import IddpmHybridLoss

T = 50
CPU = Runtime(torch.device("cpu"), torch.float32)


def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
    """A prediction and a spread, both smooth and different at every pixel and t."""
    prediction = torch.sin(2 * x + 0.1 * t[:, None, None, None]) + 0.3 * x.roll(1, dims=-1)
    return torch.cat([prediction, torch.cos(3 * x)], dim=1)


def noise(draw: int) -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(draw))


def process(timesteps: int = T) -> GaussianDiffusion:
    return GaussianDiffusion.from_schedule(CosineSchedule(CosineConfig(), timesteps=timesteps))


def test_each_step_with_a_learned_variance_equals_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = DDPMScheduler(T, beta_schedule="squaredcos_cap_v2", variance_type="learned_range", clip_sample=True)
    theirs.set_timesteps(T)
    frames = list(AncestralSampler(AncestralConfig()).sample(Denoiser(network, process()), noise, T))
    for draw, (frame, after) in enumerate(pairwise(frames), start=1):
        t = frame.t - 1
        step_noise = noise(draw)
        monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, made=step_noise, **__: made)
        x = theirs.step(network(frame.x, torch.full((2,), t), None), t, frame.x).prev_sample
        torch.testing.assert_close(after.x, x, rtol=1e-3, atol=2e-4)


def test_with_longer_strides_the_bounds_are_those_of_the_stride() -> None:
    """Nichol & Dhariwal (2021), section 4.3: beta and the posterior variance of the strided process."""
    gaussian = process()
    x, x0_hat, eps = noise(0), noise(1).clamp(-1, 1), noise(2)
    bar_t, bar_s = gaussian.alpha_bar_at(40), gaussian.alpha_bar_at(30)
    mean, posterior_variance = gaussian.posterior(x0_hat, x, 40, 30)
    for spread, variance in ((-1.0, posterior_variance), (1.0, 1 - bar_t / bar_s)):
        found = gaussian.p_sample(x0_hat, x, 40, eps, 30, torch.full_like(x, spread))
        torch.testing.assert_close(found, mean + variance**0.5 * eps, rtol=1e-5, atol=1e-5)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean, self.spread = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return torch.cat([self.mean(x), self.spread(x)], dim=1)


def losses(heads: TwoHeads, weight: float) -> Tensor:
    loss = IddpmHybridLoss(IddpmHybridConfig(bound_weight=weight), prediction="epsilon")
    x0, t = noise(5).clamp(-1, 1), torch.tensor([3, 30])
    return Objective(process(), loss, CPU).losses(heads, NoisedBatch(x0, t, noise(6)))


def test_the_bound_has_a_gradient_for_the_variance_only() -> None:
    heads = TwoHeads()
    gradients = {}
    for weight in (1e-9, 1.0):
        heads.zero_grad()
        losses(heads, weight).sum().backward()
        gradients[weight] = [part.weight.grad.clone() for part in (heads.mean, heads.spread)]  # type: ignore[union-attr]
    torch.testing.assert_close(gradients[1.0][0], gradients[1e-9][0])
    assert gradients[1.0][1].abs().max() > 1e3 * gradients[1e-9][1].abs().max()


def test_the_hybrid_loss_is_linear_in_the_weight_of_the_bound() -> None:
    heads = TwoHeads()
    simple, one, two = (losses(heads, weight) for weight in (1e-12, 0.001, 0.002))
    torch.testing.assert_close(two - one, one - simple, rtol=1e-3, atol=1e-6)
    assert bool((one > simple).all())
