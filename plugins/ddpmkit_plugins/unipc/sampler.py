"""UniPC of second order: Zhao et al. (2023), algorithms 1 and 2, B(h) = e^h - 1 (https://arxiv.org/abs/2302.04867).

This is the form for networks that predict x0 (appendix A), in which h is negative.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from ddpmkit.contracts import NoiseSource, SamplerState
from ddpmkit.diffusion import Denoiser, GaussianDiffusion, extrapolation_weight
from ddpmkit_plugins.unipc import UniPcConfig


class _Step(NamedTuple):
    """A step from t to s, with the estimates at t."""

    x0_hat: Tensor
    eps: Tensor
    x0_before: Tensor | None
    """x0_hat of the previous step; None in the first step."""
    s: int
    h: float
    """lambda_s - lambda_t."""
    h_before: float
    """h of the previous step; infinite in the first step."""


class UniPcSampler:
    """Predicts x at the next timestep, calls the network there, and corrects x with its estimate.

    The predictor is of second order, the corrector of third. One network call a step, deterministic. The predictor
    extrapolates less in long steps than in the paper: see `extrapolation_weight`.
    """

    def __init__(self, config: UniPcConfig) -> None:
        """Store the config."""
        self.config = config

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Yield the frames. The only noise is noise(0), the starting noise."""
        x, process = noise(0), denoiser.process
        last: _Step | None = None
        for t, s in pairwise([*process.sampling_timesteps(steps, self.config.log_snr_spacing), -1]):
            x0_hat, eps, _ = denoiser(x, t, clip_x0=self.config.clip_x0, keep_eps=self.config.keep_eps)
            if last is not None and self.config.corrector:
                predicted, x = x, _corrected(process, last, x0_hat)
                # x0_hat stays the same, so a change of x is a change of the noise.
                eps = eps + (x - predicted) / math.sqrt(1 - process.alpha_bar_at(t))
            yield SamplerState(t + 1, x, x0_hat)
            h = process.half_log_snr_at(s) - process.half_log_snr_at(t)
            x0_before, h_before = (None, math.inf) if last is None else (last.x0_hat, last.h)
            last = _Step(x0_hat, eps, x0_before, s, h, h_before)
            x = _predicted(process, last)
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        """Return `steps`: the corrector uses the call that the next step needs anyway."""
        return steps


def _x0_factor(process: GaussianDiffusion, step: _Step) -> float:
    """Return -alpha_s B(-h), the factor of a change of x0_hat; alpha = sqrt(alpha_bar)."""
    return -math.sqrt(process.alpha_bar_at(step.s)) * math.expm1(-step.h)


def _predicted(process: GaussianDiffusion, step: _Step) -> Tensor:
    """Return x_s. UniP: eq. 3 with p = 2; p = 1 in the first step, and in the last, to the clean image (h infinite)."""
    x = process.composed(step.x0_hat, step.eps, step.s)
    if step.x0_before is None or step.s < 0:
        return x
    weight = extrapolation_weight(step.h, step.h_before)
    return x + _x0_factor(process, step) * weight * (step.x0_hat - step.x0_before)


def _corrected(process: GaussianDiffusion, step: _Step, x0_hat: Tensor) -> Tensor:
    """Return x_s corrected with x0_hat at s. UniC: the weights solve eq. 9 for the nodes r and 1."""
    x, x0_factor = process.composed(step.x0_hat, step.eps, step.s), _x0_factor(process, step)
    change = x0_hat - step.x0_hat
    if step.x0_before is None:
        return x + x0_factor * 0.5 * change
    h, r = -step.h, -step.h_before / step.h
    phi = math.expm1(h) / h - 1
    b = phi / math.expm1(h), 2 * (phi / h - 0.5) / math.expm1(h)
    at_r = (b[0] - b[1]) / (1 - r)
    return x + x0_factor * (at_r / r * (step.x0_before - step.x0_hat) + (b[0] - at_r) * change)
