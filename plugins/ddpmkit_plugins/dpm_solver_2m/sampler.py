"""DPM-Solver++ (2M): Lu et al. (2022), algorithm 2 (https://arxiv.org/abs/2211.01095)."""

import math
from collections.abc import Iterator
from itertools import pairwise

from ddpmkit.contracts import NoiseSource, SamplerState
from ddpmkit.diffusion import Denoiser
from ddpmkit_plugins.dpm_solver_2m import DpmSolver2mConfig


class DpmSolver2mSampler:
    """Integrates the probability flow in lambda = ln(alpha / sigma), with x0_hat extrapolated through the last two."""

    def __init__(self, config: DpmSolver2mConfig) -> None:
        """Nothing is built ahead."""
        self.config = config

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Every frame, from pure noise to the finished image."""
        x, process = noise(0), denoiser.process
        before, h_before = None, math.inf
        for t, s in pairwise([*process.sampling_timesteps(steps), -1]):
            x0_hat = denoiser(x, t).x0
            if self.config.clip_x0:
                x0_hat = x0_hat.clamp(-1, 1)
            yield SamplerState(t + 1, x, x0_hat)
            bar_t, bar_s = process.alpha_bar_at(t), process.alpha_bar_at(s)
            h = process.half_log_snr_at(s) - process.half_log_snr_at(t)
            # The paper's 1 / (2 r). The step to the clean image, where h is infinite, is of first order.
            slope = h / (2 * h_before) if s >= 0 else 0.0
            ahead = x0_hat if before is None or slope == 0 else (1 + slope) * x0_hat - slope * before
            x = math.sqrt((1 - bar_s) / (1 - bar_t)) * x - math.sqrt(bar_s) * math.expm1(-h) * ahead
            before, h_before = x0_hat, h
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        """One a step."""
        return steps
