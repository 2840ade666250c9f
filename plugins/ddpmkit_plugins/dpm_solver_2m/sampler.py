"""DPM-Solver++ (2M): Lu et al. (2022), algorithm 2 (https://arxiv.org/abs/2211.01095)."""

import math
from collections.abc import Iterator
from itertools import pairwise

from ddpmkit.contracts import NoiseSource, SamplerState
from ddpmkit.diffusion import Denoiser, extrapolation_weight
from ddpmkit_plugins.dpm_solver_2m import DpmSolver2mConfig


class DpmSolver2mSampler:
    """Integrates the probability flow in lambda = ln(alpha / sigma), with x0_hat extrapolated from the last two."""

    def __init__(self, config: DpmSolver2mConfig) -> None:
        """Store the config."""
        self.config = config

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Yield every frame, from pure noise to the finished image."""
        x, process = noise(0), denoiser.process
        x0_before, h_before = None, math.inf
        for t, s in pairwise([*process.sampling_timesteps(steps, self.config.log_snr_spacing), -1]):
            x0_hat, eps, _ = denoiser(x, t, clip_x0=self.config.clip_x0, keep_eps=self.config.keep_eps)
            yield SamplerState(t + 1, x, x0_hat)
            # The first order step is that of DDIM. The step to the clean image, with infinite h, is of first order.
            x = process.composed(x0_hat, eps, s)
            h = process.half_log_snr_at(s) - process.half_log_snr_at(t)
            if x0_before is not None and s >= 0:
                scale = -math.sqrt(process.alpha_bar_at(s)) * math.expm1(-h)
                x = x + scale * extrapolation_weight(h, h_before) * (x0_hat - x0_before)
            x0_before, h_before = x0_hat, h
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        """Return `steps`: one call a step."""
        return steps
