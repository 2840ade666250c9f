"""UniPC of second order: Zhao et al. (2023), algorithms 1 and 2, B(h) = e^h - 1 (https://arxiv.org/abs/2302.04867).

In its form for networks that estimate x0 (appendix A), where h counts downwards.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from ddpmkit.contracts import NoiseSource, SamplerState
from ddpmkit.diffusion import Denoiser, GaussianDiffusion
from ddpmkit_plugins.unipc import UniPcConfig


class _Step(NamedTuple):
    """From t to s, by the estimates at t."""

    x0_hat: Tensor
    eps: Tensor
    before: Tensor | None
    """x0_hat of the step before."""
    t: int
    s: int
    r: float
    """(lambda of the step before - lambda_t) / h."""


class UniPcSampler:
    """Predicts x at the next timestep, asks the network there, and corrects x by its answer before going on."""

    def __init__(self, config: UniPcConfig) -> None:
        """Nothing is built ahead."""
        self.config = config

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Every frame, from pure noise to the finished image."""
        x, process = noise(0), denoiser.process
        last: _Step | None = None
        for t, s in pairwise([*process.sampling_timesteps(steps), -1]):
            x0_hat, eps, _ = denoiser(x, t, clip_x0=self.config.clip_x0, keep_eps=self.config.keep_eps)
            if last is not None and self.config.corrector:
                predicted, x = x, _corrected(process, last, x0_hat)
                # With the same x0_hat, whatever moves x is noise.
                eps = eps + (x - predicted) / math.sqrt(1 - process.alpha_bar_at(t))
            yield SamplerState(t + 1, x, x0_hat)
            r = _ratio(process, last.t, t, s) if last is not None else -math.inf
            last = _Step(x0_hat, eps, last.x0_hat if last is not None else None, t, s, r)
            x = _predicted(process, last)
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        """One a step: the corrector uses the answer that the next step needs anyway."""
        return steps


def _ratio(process: GaussianDiffusion, before: int, t: int, s: int) -> float:
    here = process.half_log_snr_at(t)
    return (process.half_log_snr_at(before) - here) / (process.half_log_snr_at(s) - here)


def _scale(process: GaussianDiffusion, step: _Step) -> float:
    """alpha_s B(-h), by which a change of x0_hat counts."""
    h = process.half_log_snr_at(step.s) - process.half_log_snr_at(step.t)
    return math.sqrt(process.alpha_bar_at(step.s)) * math.expm1(-h)


def _predicted(process: GaussianDiffusion, step: _Step) -> Tensor:
    """UniP: eq. 3 with p = 2, or 1 where nothing lies before, and for the step to the clean image, whose h is infinite.

    The step to t = 0 is often several times as long as the one before it: it extrapolates no further than a step of
    equal length does, whose r is -1.
    """
    x = process.composed(step.x0_hat, step.eps, step.s)
    if step.before is None or step.s < 0:
        return x
    r = min(step.r, -1) if step.s == 0 else step.r
    return x - _scale(process, step) * 0.5 / r * (step.before - step.x0_hat)


def _corrected(process: GaussianDiffusion, step: _Step, x0_hat: Tensor) -> Tensor:
    """UniC: the same step again with x0_hat at its end known; its weights solve eq. 9 for the nodes r and 1."""
    x, scale = process.composed(step.x0_hat, step.eps, step.s), _scale(process, step)
    change = x0_hat - step.x0_hat
    if step.before is None:
        return x - scale * 0.5 * change
    h = process.half_log_snr_at(step.t) - process.half_log_snr_at(step.s)
    phi = math.expm1(h) / h - 1
    b = phi / math.expm1(h), 2 * (phi / h - 0.5) / math.expm1(h)
    at_r = (b[0] - b[1]) / (1 - step.r)
    return x - scale * (at_r / step.r * (step.before - step.x0_hat) + (b[0] - at_r) * change)
