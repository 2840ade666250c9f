"""Denoising diffusion implicit models: Song et al. (2021), eq. 12 and 16 (https://arxiv.org/abs/2010.02502)."""

import math
from collections.abc import Iterator
from itertools import pairwise

from ddpmkit.contracts import NoiseSource, SamplerState
from ddpmkit.diffusion import Denoiser
from ddpmkit_plugins.ddim import DdimConfig


class DdimSampler:
    """x_s = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s - sigma^2) eps + sigma noise.

    First order, one network call a step. Deterministic if `eta` = 0; with `eta` = 1, sigma^2 is the posterior variance.
    """

    def __init__(self, config: DdimConfig) -> None:
        """Store the config."""
        self.config = config

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Yield the frames. Step i adds noise(i) if `eta` is above 0."""
        x, process = noise(0), denoiser.process
        timesteps = process.sampling_timesteps(steps, self.config.log_snr_spacing)
        for step, (t, s) in enumerate(pairwise([*timesteps, -1]), start=1):
            x0_hat, eps, _ = denoiser(x, t, clip_x0=self.config.clip_x0, keep_eps=self.config.keep_eps)
            yield SamplerState(t + 1, x, x0_hat)
            alpha_bar_t, alpha_bar_s = process.alpha_bar_at(t), process.alpha_bar_at(s)
            # sigma^2, eq. 16: sigma is eta times the posterior standard deviation, which is 0 at the last step.
            variance = self.config.eta**2 * (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
            # eq. 12
            x = math.sqrt(alpha_bar_s) * x0_hat + math.sqrt(max(0.0, 1 - alpha_bar_s - variance)) * eps
            if self.config.eta > 0 and s >= 0:
                x = x + math.sqrt(variance) * noise(step)
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        """Return `steps`: one call a step."""
        return steps
