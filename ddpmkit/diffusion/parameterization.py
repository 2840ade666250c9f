"""Conversions between x0, eps and v, the three quantities that a network can predict.

x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps: Ho et al. (2020), eq. 4. v = sqrt(alpha_bar) eps -
sqrt(1 - alpha_bar) x0: Salimans & Ho (2022), "Progressive Distillation for Fast Sampling of Diffusion Models",
section 4 (https://arxiv.org/abs/2202.00512); the papers call the two factors alpha and sigma. Here they are
`signal_scale` and `noise_scale`: [B, 1, 1, 1], or two numbers for all images. Images are [B, C, H, W].
"""

from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit.contracts.denoiser import Denoised

__all__ = ["eps_from_x0", "to_denoised", "training_target"]


def training_target(
    prediction: Prediction, x0: Tensor, eps: Tensor, signal_scale: Tensor, noise_scale: Tensor
) -> Tensor:
    """Return the correct output of a network that predicts `prediction`, at the x_t that x0 and eps compose."""
    if prediction == "epsilon":
        return eps
    if prediction == "x0":
        return x0
    return signal_scale * eps - noise_scale * x0


def to_denoised(
    prediction: Prediction, output: Tensor, x: Tensor, signal_scale: Tensor | float, noise_scale: Tensor | float
) -> Denoised:
    """Return x0 and eps from the network's output at x. Solves x = signal_scale x0 + noise_scale eps for the others."""
    if prediction == "epsilon":
        return Denoised(x0=(x - noise_scale * output) / signal_scale, eps=output)
    if prediction == "x0":
        return Denoised(x0=output, eps=eps_from_x0(output, x, signal_scale, noise_scale))
    return Denoised(x0=signal_scale * x - noise_scale * output, eps=noise_scale * x + signal_scale * output)


def eps_from_x0(x0: Tensor, x: Tensor, signal_scale: Tensor | float, noise_scale: Tensor | float) -> Tensor:
    """Return the noise in x if the clean image is x0."""
    return (x - signal_scale * x0) / noise_scale
