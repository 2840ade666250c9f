"""The sampler of EDM: Karras et al. (2022), algorithm 2 (https://arxiv.org/abs/2206.00364).

The paper keeps the image as it is and adds noise of standard deviation sigma; here x = sqrt(alpha_bar) (image + sigma
noise), so each step is taken on x / sqrt(alpha_bar), with sigma^2 = (1 - alpha_bar) / alpha_bar.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from ddpmkit.contracts import NoiseSource, SamplerState
from ddpmkit.diffusion import Denoised, Denoiser, GaussianDiffusion
from ddpmkit.plugin import InputError
from ddpmkit_plugins.heun import HeunConfig

_LONG_STEP = 5.0
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
            here = self._estimate(denoiser, x, noisier)
            yield SamplerState(t + 1, x, here.x0)
            x = self._step(denoiser, here, noisier, s)
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        """Two a step, but one for the last."""
        return 2 * steps - 1

    def _step(self, denoiser: Denoiser, here: Denoised, t: int, s: int) -> Tensor:
        process = denoiser.process
        euler = process.composed(here.x0, here.eps, s)
        if s < 0:
            return euler
        there = self._estimate(denoiser, euler, s)
        sigma_t, sigma_s = _sigma(process, t), _sigma(process, s)
        if sigma_t > _LONG_STEP * sigma_s:
            # A slope at the end carries the error of its x0 sigma_t / sigma_s times as far as x0 itself does. Averaged
            # as x0, the step is Heun's in ln(sigma), with the noise followed exactly: of second order too.
            change = (1 - sigma_s / sigma_t) * (there.x0 - here.x0) / 2
        else:
            # The slope is eps.
            change = (sigma_s - sigma_t) * (there.eps - here.eps) / 2
        return euler + math.sqrt(process.alpha_bar_at(s)) * change

    def _estimate(self, denoiser: Denoiser, x: Tensor, t: int) -> Denoised:
        return denoiser(x, t, clip_x0=self.config.clip_x0, keep_eps=self.config.keep_eps)

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
