"""The noise levels that EDM uses in sampling: Karras et al. (2022), eq. 5 (https://arxiv.org/abs/2206.00364).

EDM adds noise of standard deviation sigma to an unscaled image. Scaled by sqrt(alpha_bar) = 1 / sqrt(1 + sigma^2),
this is x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps.
"""

import torch
from torch import Tensor

from ddpmkit_plugins.edm import EdmConfig


class EdmSchedule:
    """sigma^(1/rho) grows linearly from sigma_min^(1/rho) to sigma_max^(1/rho)."""

    def __init__(self, config: EdmConfig, *, timesteps: int) -> None:
        """`timesteps`: T, 1 or more. If T = 1, sigma is `sigma_max`."""
        self.config = config
        self.timesteps = timesteps

    def alphas_cumprod(self) -> Tensor:
        """Return alpha_bar, float64 [T]."""
        config = self.config
        first, last = config.sigma_min ** (1 / config.rho), config.sigma_max ** (1 / config.rho)
        sigma = torch.linspace(last, first, self.timesteps, dtype=torch.float64).flip(0) ** config.rho
        return 1 / (1 + sigma**2)
