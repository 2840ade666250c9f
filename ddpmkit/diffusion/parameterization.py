"""Conversions between x0, eps and v, the three quantities that a network can predict.

With alpha = sqrt(alpha_bar_t) and sigma = sqrt(1 - alpha_bar_t), x_t = alpha x0 + sigma eps: Ho et al. (2020), eq. 4;
and v = alpha eps - sigma x0: Salimans & Ho (2022), "Progressive Distillation for Fast Sampling of Diffusion Models",
section 4 (https://arxiv.org/abs/2202.00512). Images are [B, C, H, W]; alpha and sigma are [B, 1, 1, 1].
"""

from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit.contracts.denoiser import Denoised

__all__ = ["eps_from_x0", "to_denoised", "training_target"]


def training_target(prediction: Prediction, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return the correct output of a network that predicts `prediction`, at x_t = alpha x0 + sigma eps."""
    if prediction == "epsilon":
        return eps
    if prediction == "x0":
        return x0
    return alpha * eps - sigma * x0


def to_denoised(prediction: Prediction, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Denoised:
    """Return x0 and eps from the network's output at x, by solving x = alpha x0 + sigma eps for what is missing."""
    if prediction == "epsilon":
        return Denoised(x0=(x - sigma * output) / alpha, eps=output)
    if prediction == "x0":
        return Denoised(x0=output, eps=eps_from_x0(output, x, alpha, sigma))
    return Denoised(x0=alpha * x - sigma * output, eps=sigma * x + alpha * output)


def eps_from_x0(x0: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return the noise in x if the clean image is x0."""
    return (x - alpha * x0) / sigma
