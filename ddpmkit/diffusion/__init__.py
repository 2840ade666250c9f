"""The Gaussian diffusion process: coefficients, noising, conversions between eps, x0 and v, and the reverse step.

The notation follows Ho et al. (2020), "Denoising Diffusion Probabilistic Models" (https://arxiv.org/abs/2006.11239).
Timesteps are counted from 0: timestep t = 0 .. T-1 is t + 1 in the paper, because x_t is the clean image after t + 1
noising steps. t = -1 is the clean image. `SamplerState.t` counts noising steps, as the paper does.

alpha_t is 1 - beta_t, as in the paper, alpha_bar_t is the product of the alphas up to t, and alpha_ts is
alpha_bar_t / alpha_bar_s, the same product over the steps from s to t.
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
