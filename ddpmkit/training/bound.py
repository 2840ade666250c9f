"""The variational bound of one step, from which a variance can be learned.

Ho et al. (2020), eq. 5 and 13; Nichol & Dhariwal (2021), section 3.1. It does not know what else the network learns.
"""

import math

import torch
from torch import Tensor

from ddpmkit.diffusion import GaussianDiffusion

__all__ = ["variational_bound"]


def variational_bound(
    process: GaussianDiffusion, x0: Tensor, x: Tensor, t: Tensor, x0_hat: Tensor, spread: Tensor
) -> Tensor:
    """T times the bound's term for t, an estimate of the whole, in bits a number: [B].

    x0, x, x0_hat and spread are [B, C, H, W], t int64 [B]; `spread` chooses the variance of the step. At t = 0 the term
    is the likelihood of 8-bit pixels, at others the divergence of two Gaussians.
    """
    true_mean, mean = (process.posterior_mean(estimate, x, t) for estimate in (x0, x0_hat))
    true_log_variance = process.posterior_log_variance(t)
    log_variance = process.learned_log_variance(spread, t)
    divergence = _divergence(true_mean, true_log_variance, mean, log_variance)
    surprise = -_log_likelihood(x0, mean, log_variance)
    first = (t == 0)[:, None, None, None]
    nats = torch.where(first, surprise, divergence).flatten(1).mean(dim=1)
    return process.timesteps * nats / math.log(2)


def _divergence(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(other_mean, other_variance)) of each number, in nats."""
    apart = (mean - other_mean).square() * torch.exp(-other_log_variance)
    return 0.5 * (other_log_variance - log_variance + torch.exp(log_variance - other_log_variance) - 1 + apart)


def _log_likelihood(x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Of the 8-bit pixel around x0 under N(mean, variance), whose ends at -1 and 1 are open: eq. 13, in nats."""
    inverse_std = torch.exp(-0.5 * log_variance)
    above, below = (inverse_std * (x0 - mean + side / 255) for side in (1, -1))
    inside = (torch.special.ndtr(above) - torch.special.ndtr(below)).clamp(min=1e-12).log()
    at_most, at_least = torch.special.log_ndtr(above), torch.special.log_ndtr(-below)
    return torch.where(x0 < -0.999, at_most, torch.where(x0 > 0.999, at_least, inside))
