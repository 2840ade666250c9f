"""The Gaussian diffusion process: coefficients, noising, conversions between eps, x0 and v, and the reverse step.

The notation follows Ho et al. (2020), "Denoising Diffusion Probabilistic Models" (https://arxiv.org/abs/2006.11239).
Timesteps are counted from 0, so timestep t here is t + 1 in the paper.
"""

from ddpmkit.contracts.denoiser import Denoised, Posterior
from ddpmkit.diffusion.alpha_bar import coefficients, with_zero_terminal_snr
from ddpmkit.diffusion.checks import check_alphas_cumprod
from ddpmkit.diffusion.denoiser import Denoiser, Guidance, KnownPixels
from ddpmkit.diffusion.process import GaussianDiffusion
from ddpmkit.diffusion.sampling_steps import extrapolation_weight

__all__ = [
    "Denoised",
    "Denoiser",
    "GaussianDiffusion",
    "Guidance",
    "KnownPixels",
    "Posterior",
    "check_alphas_cumprod",
    "coefficients",
    "extrapolation_weight",
    "with_zero_terminal_snr",
]

Known = KnownPixels  # its name in plugin API 1
