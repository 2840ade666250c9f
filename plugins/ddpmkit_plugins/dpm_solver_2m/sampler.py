"""DPM-Solver++ (2M): Lu et al. (2022), algorithm 2 (https://arxiv.org/abs/2211.01095).

Two things differ from the paper: a long step extrapolates less, see `extrapolation_weight`; and with `clip_x0` and
`keep_eps`, the first order part of a step uses the clamped x0_hat with the eps of the network.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

from ddpmkit.contracts import NoiseSource, SamplerState
from ddpmkit.diffusion import Denoiser, extrapolation_weight
from ddpmkit_plugins.dpm_solver_2m import DpmSolver2mConfig


class DpmSolver2mSampler:
    """Integrates the probability flow ODE in lambda, with x0_hat extrapolated from the last two estimates.

    lambda = ln(sqrt(alpha_bar) / sqrt(1 - alpha_bar)). Second order, one network call a step, deterministic. The first
    step and the last are of first order.
    """

    def __init__(self, config: DpmSolver2mConfig) -> None:
        """Store the config."""
        self.config = config

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Yield the frames. The only noise is noise(0), the starting noise."""
        x, process = noise(0), denoiser.process
        x0_before, h_before = None, math.inf  # of the previous step; the first step uses neither
        for t, s in pairwise([*process.sampling_timesteps(steps, self.config.log_snr_spacing), -1]):
            x0_hat, eps, _ = denoiser(x, t, clip_x0=self.config.clip_x0, keep_eps=self.config.keep_eps)
            yield SamplerState(t + 1, x, x0_hat)
            # Algorithm 2, with alpha = sqrt(alpha_bar) and sigma = sqrt(1 - alpha_bar):
            #   x_s = sigma_s / sigma_t x_t - alpha_s (e^-h - 1) (x0_hat + w (x0_hat - x0_before)).
            # With w = 0 this is alpha_s x0_hat + sigma_s eps, the step of DDIM.
            x = process.composed(x0_hat, eps, s)
            h = process.half_log_snr_at(s) - process.half_log_snr_at(t)
            if x0_before is not None and s >= 0:  # h of the step to the clean image is infinite
                x0_factor = -math.sqrt(process.alpha_bar_at(s)) * math.expm1(-h)
                x = x + x0_factor * extrapolation_weight(h, h_before) * (x0_hat - x0_before)
            x0_before, h_before = x0_hat, h
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        """Return `steps`: one call a step."""
        return steps
