"""The sampler of EDM: Karras et al. (2022), algorithm 2 (https://arxiv.org/abs/2206.00364).

The paper keeps the image as it is and adds noise of standard deviation sigma; here x = sqrt(alpha_bar) (image + sigma
noise), so each step is taken on x / sqrt(alpha_bar), with sigma^2 = (1 - alpha_bar) / alpha_bar.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from ddpmkit.contracts import NoiseSource, SamplerState
from ddpmkit.diffusion import Denoiser, GaussianDiffusion
from ddpmkit.plugin import InputError
from ddpmkit_plugins.heun import HeunConfig

_LONG_STEP = 8.0
"""Ratio of noise levels that no step of EDM comes near, but the first one of a cosine schedule does: 32 at T = 50."""


class HeunSampler:
    """Euler's step, and the same step again by the mean of the slopes at both ends."""

    def __init__(self, config: HeunConfig) -> None:
        """Nothing is built ahead."""
        self.config = config

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Every frame, from pure noise to the finished image. Raises InputError where the noise has no end."""
        x, process = noise(0), denoiser.process
        if process.alpha_bar_at(process.timesteps - 1) == 0:
            raise InputError(
                "sampler heun cannot start at alpha_bar = 0, where the noise over signal is infinite.",
                remedies=['sampler.use = "ddim", "dpm-solver-2m" or "unipc"', "diffusion.zero_terminal_snr = false"],
            )
        for draw, (t, s) in enumerate(pairwise([*process.sampling_timesteps(steps), -1]), start=1):
            noisier = self._churned(process, t, steps)
            if noisier > t:
                x = self._with_noise_added(process, x, t, noisier, noise(draw))
            x0_hat = self._x0_hat(denoiser, x, noisier)
            yield SamplerState(t + 1, x, x0_hat)
            x = self._step(denoiser, x, x0_hat, noisier, s)
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        """Two a step, but one for the last."""
        return 2 * steps - 1

    def _step(self, denoiser: Denoiser, x: Tensor, x0_hat: Tensor, t: int, s: int) -> Tensor:
        if s < 0:
            return x0_hat
        process = denoiser.process
        signal_t, signal_s = math.sqrt(process.alpha_bar_at(t)), math.sqrt(process.alpha_bar_at(s))
        sigma_t, sigma_s = _sigma(process, t), _sigma(process, s)
        image = x / signal_t
        slope = (image - x0_hat) / sigma_t
        euler = image + (sigma_s - sigma_t) * slope
        x0_there = self._x0_hat(denoiser, signal_s * euler, s)
        if self.config.clip_x0 and sigma_t > _LONG_STEP * sigma_s:
            # A slope at the end carries its error sigma_t / sigma_s times as far as x0 itself, out of what is clamped.
            return signal_s * (image + (sigma_s - sigma_t) * (image - (x0_hat + x0_there) / 2) / sigma_t)
        slope_there = (euler - x0_there) / sigma_s
        return signal_s * (image + (sigma_s - sigma_t) * (slope + slope_there) / 2)

    def _x0_hat(self, denoiser: Denoiser, x: Tensor, t: int) -> Tensor:
        x0_hat = denoiser(x, t).x0
        return x0_hat.clamp(-1, 1) if self.config.clip_x0 else x0_hat

    def _churned(self, process: GaussianDiffusion, t: int, steps: int) -> int:
        """The timestep whose sigma is nearest to (1 + gamma) sigma_t: the network knows no other noise levels."""
        config, sigma = self.config, _sigma(process, t)
        if config.churn == 0 or not config.churn_from <= sigma <= config.churn_to:
            return t
        wanted = sigma * (1 + min(config.churn / steps, math.sqrt(2) - 1))
        return min(range(t, process.timesteps), key=lambda u: abs(_sigma(process, u) - wanted))

    def _with_noise_added(self, process: GaussianDiffusion, x: Tensor, t: int, noisier: int, noise: Tensor) -> Tensor:
        added = math.sqrt(_sigma(process, noisier) ** 2 - _sigma(process, t) ** 2) * self.config.churn_noise
        image = x / math.sqrt(process.alpha_bar_at(t)) + added * noise
        return math.sqrt(process.alpha_bar_at(noisier)) * image


def _sigma(process: GaussianDiffusion, t: int) -> float:
    bar = process.alpha_bar_at(t)
    return math.sqrt((1 - bar) / bar)
