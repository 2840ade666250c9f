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
    """The step from t to s: where it began, x0_hat there, and x0_hat a step before (None: there is none)."""

    x: Tensor
    x0_hat: Tensor
    before: Tensor | None
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
            x0_hat = denoiser(x, t).x0
            if self.config.clip_x0:
                x0_hat = x0_hat.clamp(-1, 1)
            if last is not None and self.config.corrector:
                x = _corrected(process, last, x0_hat)
            yield SamplerState(t + 1, x, x0_hat)
            before = last.x0_hat if last is not None and s >= 0 else None
            r = _ratio(process, last.t, t, s) if last is not None else -math.inf
            last = _Step(x, x0_hat, before, t, s, r)
            x = _predicted(process, last)
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        """One a step: the corrector uses the answer that the next step needs anyway."""
        return steps


def _ratio(process: GaussianDiffusion, before: int, t: int, s: int) -> float:
    here = process.half_log_snr_at(t)
    return (process.half_log_snr_at(before) - here) / (process.half_log_snr_at(s) - here)


def _first_order(process: GaussianDiffusion, step: _Step) -> tuple[Tensor, float]:
    """The step if x0_hat stayed as it is, and alpha_s B(-h), which scales what is added for its change."""
    bar_t, bar_s = process.alpha_bar_at(step.t), process.alpha_bar_at(step.s)
    scale = math.sqrt(bar_s) * math.expm1(-_h(process, step))
    return math.sqrt((1 - bar_s) / (1 - bar_t)) * step.x - scale * step.x0_hat, scale


def _h(process: GaussianDiffusion, step: _Step) -> float:
    return process.half_log_snr_at(step.s) - process.half_log_snr_at(step.t)


def _predicted(process: GaussianDiffusion, step: _Step) -> Tensor:
    """UniP: eq. 3 with p = 2, or 1 where there is nothing before."""
    x, scale = _first_order(process, step)
    return x if step.before is None else x - scale * 0.5 / step.r * (step.before - step.x0_hat)


def _corrected(process: GaussianDiffusion, step: _Step, x0_hat: Tensor) -> Tensor:
    """UniC: the same step again with x0_hat at its end known; its weights solve eq. 9 for the nodes r and 1."""
    x, scale = _first_order(process, step)
    change = x0_hat - step.x0_hat
    if step.before is None:
        return x - scale * 0.5 * change
    h = -_h(process, step)
    phi = math.expm1(h) / h - 1
    b = phi / math.expm1(h), 2 * (phi / h - 0.5) / math.expm1(h)
    at_r = (b[0] - b[1]) / (1 - step.r)
    return x - scale * (at_r / step.r * (step.before - step.x0_hat) + (b[0] - at_r) * change)
