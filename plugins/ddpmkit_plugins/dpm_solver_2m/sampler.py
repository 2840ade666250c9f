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
            x0_hat, eps, _ = denoiser(x, t, clip_x0=self.config.clip_x0, keep_eps=self.config.keep_eps)
            yield SamplerState(t + 1, x, x0_hat)
            # The step of first order, which is DDIM's. The one to the clean image, where h is infinite, ends there.
            x = process.composed(x0_hat, eps, s)
            h = process.half_log_snr_at(s) - process.half_log_snr_at(t)
            if before is not None and s >= 0:
                # The paper's 1 / (2 r). The step to t = 0 is often several times as long as the one before it: it
                # extrapolates no further than a step of equal length does.
                share = h / (2 * h_before)
                share = min(share, 0.5) if s == 0 else share
                x = x - math.sqrt(process.alpha_bar_at(s)) * math.expm1(-h) * share * (x0_hat - before)
            before, h_before = x0_hat, h
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        """One a step."""
        return steps
