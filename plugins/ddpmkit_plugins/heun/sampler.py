"""The sampler of EDM: Karras et al. (2022), algorithm 2 (https://arxiv.org/abs/2206.00364).

In the paper, x is the image plus noise of standard deviation sigma. Here x = sqrt(alpha_bar) (image + sigma noise), so
each step is taken on x / sqrt(alpha_bar), with sigma^2 = (1 - alpha_bar) / alpha_bar.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from ddpmkit.contracts import NoiseSource, SamplerState
from ddpmkit.diffusion import Denoised, Denoiser, GaussianDiffusion
from ddpmkit.plugin import InputError
from ddpmkit_plugins.heun import HeunConfig

_LONG_STEP = 2.5
"""Ratio of the noise levels at both ends of a step. A step of EDM with 18 steps divides the noise level by less, except
the last three; the first step of a cosine schedule with T = 50 divides it by 32."""


class HeunSampler:
    """Takes an Euler step, then repeats it with the mean of the slopes at both ends (Heun's method).

    Second order, two network calls a step and one in the last, deterministic if `churn` = 0.
    """

    def __init__(self, config: HeunConfig) -> None:
        """Store the config."""
        self.config = config

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Yield the frames. Step i adds noise(i) if `churn` raises its noise level.

        Raises InputError if alpha_bar ends at 0.
        """
        x, process = noise(0), denoiser.process
        if process.alpha_bar_at(process.timesteps - 1) == 0:
            raise InputError(
                "sampler heun cannot start at alpha_bar = 0, where the noise over the signal is infinite.",
                remedies=[
                    'set sampler.use = "ddim", "dpm-solver-2m" or "unipc"',
                    "set diffusion.zero_terminal_snr = false",
                ],
            )
        timesteps = process.sampling_timesteps(steps, self.config.log_snr_spacing)
        for step, (t, s) in enumerate(pairwise([*timesteps, -1]), start=1):
            noisier = self._churned_timestep(process, t, steps)
            if noisier > t:
                x = self._with_noise_added(process, x, t, noisier, noise(step))
            estimate = self._estimate(denoiser, x, noisier)
            yield SamplerState(t + 1, x, estimate.x0)
            x = self._step(denoiser, estimate, noisier, s)
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        """Return 2 * steps - 1: two calls a step, one for the last."""
        return 2 * steps - 1

    def _step(self, denoiser: Denoiser, at_t: Denoised, t: int, s: int) -> Tensor:
        """Return x_s from the estimates at timestep t."""
        process = denoiser.process
        euler = process.composed(at_t.x0, at_t.eps, s)
        if s < 0:
            return euler
        at_s = self._estimate(denoiser, euler, s)
        sigma_t, sigma_s = _sigma(process, t), _sigma(process, s)
        if sigma_t <= _LONG_STEP * sigma_s:
            # Algorithm 2: image_s = image_t + (sigma_s - sigma_t) (d_t + d_s) / 2, with the slope d = eps.
            change = (sigma_s - sigma_t) * (at_s.eps - at_t.eps) / 2
        else:
            # Not in the paper. d_s has sigma_t / sigma_s times the error of x0 at s. The mean of x0 instead gives
            # Heun's method in ln(sigma), in which the noise is integrated exactly. It is of second order too.
            change = (1 - sigma_s / sigma_t) * (at_s.x0 - at_t.x0) / 2
        return euler + math.sqrt(process.alpha_bar_at(s)) * change

    def _estimate(self, denoiser: Denoiser, x: Tensor, t: int) -> Denoised:
        return denoiser(x, t, clip_x0=self.config.clip_x0, keep_eps=self.config.keep_eps)

    def _churned_timestep(self, process: GaussianDiffusion, t: int, steps: int) -> int:
        """Return the timestep with sigma nearest to (1 + gamma) sigma_t: the network has no other noise levels."""
        config, sigma = self.config, _sigma(process, t)
        if config.churn == 0 or not config.churn_from <= sigma <= config.churn_to:
            return t
        target = sigma * (1 + min(config.churn / steps, math.sqrt(2) - 1))
        return min(range(t, process.timesteps), key=lambda u: abs(_sigma(process, u) - target))

    def _with_noise_added(self, process: GaussianDiffusion, x: Tensor, t: int, noisier: int, noise: Tensor) -> Tensor:
        added = math.sqrt(_sigma(process, noisier) ** 2 - _sigma(process, t) ** 2) * self.config.churn_noise
        image = x / math.sqrt(process.alpha_bar_at(t)) + added * noise
        return math.sqrt(process.alpha_bar_at(noisier)) * image


def _sigma(process: GaussianDiffusion, t: int) -> float:
    alpha_bar_t = process.alpha_bar_at(t)
    return math.sqrt((1 - alpha_bar_t) / alpha_bar_t)
