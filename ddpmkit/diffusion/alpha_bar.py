"""Functions of a noise schedule alpha_bar: coefficients of the process, zero terminal SNR, fingerprint."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from ddpmkit.errors import InputError

__all__ = ["alpha_bar_fingerprint", "coefficients", "with_zero_terminal_snr"]


def coefficients(alphas_cumprod: Tensor) -> dict[str, Tensor]:
    """Return the buffers of `GaussianDiffusion` by name, float64 [T] each, from alpha_bar float64 [T].

    Ho et al. (2020), eq. 4 and 7. At t = 0, where the variance is 0, `log_posterior_variance` has the value of t = 1:
    Nichol & Dhariwal (2021), section 3.1. If T = 1 it is the logarithm of beta.
    """
    previous = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    alpha_t = alphas_cumprod / previous
    beta, one_minus_alpha_bar = 1 - alpha_t, 1 - alphas_cumprod
    variance = (1 - previous) / one_minus_alpha_bar * beta
    return {
        "alpha_t": alpha_t,
        "beta": beta,
        "alpha_bar": alphas_cumprod,
        "sqrt_alpha_bar": alphas_cumprod.sqrt(),
        "sqrt_one_minus_alpha_bar": one_minus_alpha_bar.sqrt(),
        "posterior_variance": variance,
        "log_snr": alphas_cumprod.log() - one_minus_alpha_bar.log(),
        "posterior_mean_x0": previous.sqrt() * beta / one_minus_alpha_bar,
        "posterior_mean_x": alpha_t.sqrt() * (1 - previous) / one_minus_alpha_bar,
        "log_posterior_variance": (torch.cat([variance[1:2], variance[1:]]) if len(variance) > 1 else beta).log(),
        "log_beta": beta.log(),
    }


def with_zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """Rescale a schedule so that no signal is left at the last timestep: float64 [T] -> float64 [T].

    sqrt(alpha_bar) is shifted to end at 0 and scaled to keep its first value: Lin et al. (2024), "Common Diffusion
    Noise Schedules and Sample Steps are Flawed", algorithm 1 (https://arxiv.org/abs/2305.08891). Raises
    InputError if T = 1.
    """
    if len(alphas_cumprod) < 2:
        raise InputError("a schedule with zero terminal SNR needs 2 timesteps or more.")
    signal = alphas_cumprod.sqrt()
    return ((signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])) ** 2


def alpha_bar_fingerprint(alphas_cumprod: Sequence[float]) -> str:
    """Return the SHA-256 of alpha_bar at t = 0 .. T-1, rounded to 7 digits, as the last digit varies by machine."""
    digits = " ".join(f"{alpha_bar:.6e}" for alpha_bar in alphas_cumprod)
    return hashlib.sha256(digits.encode()).hexdigest()
