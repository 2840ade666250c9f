"""The variational bound of one step, from which a variance can be learned.

Ho et al. (2020), eq. 5 and 13; Nichol & Dhariwal (2021), section 3.1.
"""

import math

import torch
from torch import Tensor

from ddpmkit.diffusion import GaussianDiffusion

__all__ = ["variational_bound"]

_FARTHEST = -1e3
"""Standard deviations beyond which a black or white pixel counts as no less likely."""


def variational_bound(process: GaussianDiffusion, x0: Tensor, t: Tensor, x0_hat: Tensor, spread: Tensor) -> Tensor:
    """T times the bound's term for t, an estimate of the whole, in bits a number: [B].

    x0, x0_hat and spread are [B, C, H, W], t int64 [B]; `spread` chooses the variance of the step. At t = 0 the term
    is the likelihood of 8-bit pixels, at others the divergence of two Gaussians.
    """
    # Of two posteriors of one x, which it therefore does not depend on.
    apart = process.posterior_mean_x0[t][:, None, None, None] * (x0 - x0_hat)
    log_variance = process.learned_log_variance(spread, t)
    divergence = _divergence(apart, process.posterior_log_variance(t), log_variance)
    surprise = -_log_likelihood(x0, apart, log_variance)
    first = (t == 0)[:, None, None, None]
    nats = torch.where(first, surprise, divergence).flatten(1).mean(dim=1)
    return process.timesteps * nats / math.log(2)


def _divergence(apart: Tensor, log_variance: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(other mean, other variance)) of each number, in nats; `apart` is between the means."""
    ratio = log_variance - other_log_variance
    return 0.5 * (torch.expm1(ratio) - ratio + apart.square() * torch.exp(-other_log_variance))


def _log_likelihood(x0: Tensor, apart: Tensor, log_variance: Tensor) -> Tensor:
    """Of the 8-bit pixel around x0 under N(x0 - apart, variance), whose ends at -1 and 1 are open: eq. 13, in nats."""
    inverse_std = torch.exp(-0.5 * log_variance)
    above, below = (inverse_std * (apart + side / 255) for side in (1, -1))
    # The share between both, counted from the end that is nearer: from the other one both are 1 in float32. By erfc,
    # since torch's ndtr is 1 + erf, which is 0 from -5.6 on.
    nearer, farther = torch.where(apart > 0, below, -above), torch.where(apart > 0, above, -below)
    between = torch.special.erfc(nearer / math.sqrt(2)) - torch.special.erfc(farther / math.sqrt(2))
    inside = (between / 2).clamp(min=1e-12).log()
    # Its slope is a quotient of two exponentials of the square of this, which rounding makes infinite from 1e4 on.
    at_most, at_least = (torch.special.log_ndtr(side.clamp(min=_FARTHEST)) for side in (above, -below))
    return torch.where(x0 < -0.999, at_most, torch.where(x0 > 0.999, at_least, inside))
