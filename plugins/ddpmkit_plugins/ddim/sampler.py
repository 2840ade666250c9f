"""Denoising diffusion implicit models: Song et al. (2021), eq. 12 and 16 (https://arxiv.org/abs/2010.02502)."""

import math
from collections.abc import Iterator
from itertools import pairwise

from ddpmkit.contracts import NoiseSource, SamplerState
from ddpmkit.diffusion import Denoiser
from ddpmkit_plugins.ddim import DdimConfig


class DdimSampler:
    """x_s = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s - sigma^2) eps + sigma noise."""

    def __init__(self, config: DdimConfig) -> None:
        """Store the config."""
        self.config = config

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Yield every frame, from pure noise to the finished image."""
        x, process = noise(0), denoiser.process
        timesteps = process.sampling_timesteps(steps, self.config.log_snr_spacing)
        for number, (t, s) in enumerate(pairwise([*timesteps, -1]), start=1):
            x0_hat, eps, _ = denoiser(x, t, clip_x0=self.config.clip_x0, keep_eps=self.config.keep_eps)
            yield SamplerState(t + 1, x, x0_hat)
            bar_t, bar_s = process.alpha_bar_at(t), process.alpha_bar_at(s)
            # eq. 16: eta times the posterior standard deviation, which is 0 at the last step.
            variance = self.config.eta**2 * (1 - bar_s) / (1 - bar_t) * (1 - bar_t / bar_s)
            x = math.sqrt(bar_s) * x0_hat + math.sqrt(max(0.0, 1 - bar_s - variance)) * eps
            if self.config.eta > 0 and s >= 0:
                x = x + math.sqrt(variance) * noise(number)
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        """Return `steps`: one call a step."""
        return steps
