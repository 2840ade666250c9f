"""The variational lower bound of one step, the loss for a learned variance.

Ho et al. (2020), eq. 5 and 13; Nichol & Dhariwal (2021), section 3.1.
"""

import math

import torch
from torch import Tensor

from ddpmkit.diffusion import GaussianDiffusion

__all__ = ["variational_bound"]

_LOWEST_BOUND = -1e3
"""In standard deviations; farther pixel bounds have the same likelihood as this one."""


def variational_bound(process: GaussianDiffusion, x0: Tensor, t: Tensor, x0_hat: Tensor, spread: Tensor) -> Tensor:
    """Return T times the term of timestep t in bits per dimension, [B]; its mean over t is the bound without L_T.

    x0, x0_hat and spread are [B, C, H, W], t is int64 [B]; `spread` interpolates the variance of the step. At t = 0 the
    term is the negative log-likelihood of 8-bit pixels, at other t the KL divergence of two Gaussians.
    """
    # The two posterior means share the term of x, so only x0 - x0_hat is left.
    mean_difference = process.posterior_mean_x0[t][:, None, None, None] * (x0 - x0_hat)
    log_variance = process.learned_log_variance(spread, t)
    divergence = _divergence(mean_difference, process.posterior_log_variance(t), log_variance)
    negative_log_likelihood = -_log_likelihood(x0, mean_difference, log_variance)
    first = (t == 0)[:, None, None, None]
    nats = torch.where(first, negative_log_likelihood, divergence).flatten(1).mean(dim=1)
    return process.timesteps * nats / math.log(2)


def _divergence(mean_difference: Tensor, log_variance: Tensor, other_log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(other mean, other variance)) of each value, in nats."""
    ratio = log_variance - other_log_variance
    return 0.5 * (torch.expm1(ratio) - ratio + mean_difference.square() * torch.exp(-other_log_variance))


def _log_likelihood(x0: Tensor, mean_difference: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log-likelihood of the 8-bit pixel around x0 under N(x0 - mean_difference, variance), in nats: eq. 13.

    The bins of black (-1) and white (1) pixels extend to infinity.
    """
    inverse_std = torch.exp(-0.5 * log_variance)
    above, below = (inverse_std * (mean_difference + side / 255) for side in (1, -1))
    # The probability between both bounds, computed from the nearer tail; from the farther one, both probabilities would
    # round to 1. It uses erfc, because torch's ndtr is 1 + erf, which is 0 below -5.6.
    nearer, farther = torch.where(mean_difference > 0, below, -above), torch.where(mean_difference > 0, above, -below)
    between = torch.special.erfc(nearer / math.sqrt(2)) - torch.special.erfc(farther / math.sqrt(2))
    inside = (between / 2).clamp(min=1e-12).log()
    # The gradient of log_ndtr is a quotient of two exponentials of the squared argument, which overflow from 1e4 on.
    at_most, at_least = (torch.special.log_ndtr(side.clamp(min=_LOWEST_BOUND)) for side in (above, -below))
    return torch.where(x0 < -0.999, at_most, torch.where(x0 > 0.999, at_least, inside))
