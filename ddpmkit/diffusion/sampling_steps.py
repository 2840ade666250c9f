"""The timesteps that a sampler visits, and the weight with which a multistep solver extrapolates x0_hat."""

from collections.abc import Sequence

import torch

__all__ = ["extrapolation_weight", "spaced_timesteps"]

_LOWEST_LAMBDA = -5.1
"""Below it, x0_hat hardly changes. `lambda_min_clipped` of diffusers has the same value for the cosine schedule."""
_LONG_STEP = 0.5
"""In lambda: the noise over the signal falls by a factor of e^0.5 = 1.65."""


def spaced_timesteps(half_log_snr: Sequence[float], steps: int, log_snr_spacing: float) -> list[int]:
    """Return `steps` timesteps from T-1 down to 0, evenly spaced in (1 - w) t + w lambda_t, w = `log_snr_spacing`.

    `half_log_snr`: lambda_t for t = 0 .. T-1. Both terms are scaled to 0 .. 1; lambda is clamped at -5.1.
    """
    last = len(half_log_snr) - 1
    if log_snr_spacing == 0 or steps == 1:
        return [int(t) for t in torch.linspace(last, 0, steps, dtype=torch.float64).round()]
    floor = min(_LOWEST_LAMBDA, half_log_snr[0] - 1)
    lambdas = [max(floor, value) for value in half_log_snr]
    position = [
        (1 - log_snr_spacing) * (last - t) / last
        + log_snr_spacing * (lambdas[t] - lambdas[last]) / (lambdas[0] - lambdas[last])
        for t in range(last + 1)
    ]
    chosen = [last]
    for step in range(1, steps):
        goal, t = step / (steps - 1), chosen[-1] - 1
        # The nearest timestep that leaves one for each later step.
        while t > steps - 1 - step and abs(position[t - 1] - goal) <= abs(position[t] - goal):
            t -= 1
        chosen.append(t)
    return chosen


def extrapolation_weight(h: float, h_before: float) -> float:
    """Return the weight of x0_hat(t) - x0_hat(previous t) in a second-order multistep solver.

    `h`, `h_before`: the lengths in lambda of this step and of the previous one. The weight is 1 / (2 r) with
    r = h_before / h: Lu et al. (2022), algorithm 2 (https://arxiv.org/abs/2211.01095). If r < 1 and h > 0.5, it is
    r^2 / 2 instead, because a change of x0_hat in a short step rarely continues over a longer one. With enough steps,
    no step is that long, so the order of the solver is that of the paper.
    """
    r = h_before / h
    return r * r / 2 if r < 1 and h > _LONG_STEP else 1 / (2 * r)
