"""The noise levels of EDM: Karras et al. (2022), eq. 5 (https://arxiv.org/abs/2206.00364).

EDM keeps the image and adds sigma times noise; scaled to unit variance that is x_t with alpha_bar = 1 / (1 + sigma^2).
"""

import torch
from torch import Tensor

from ddpmkit_plugins.edm import EdmConfig


class EdmSchedule:
    """sigma^(1/rho) grows linearly from sigma_min^(1/rho) to sigma_max^(1/rho)."""

    def __init__(self, config: EdmConfig, *, timesteps: int) -> None:
        """`timesteps`: T; a single one is the noisiest."""
        self.config = config
        self.timesteps = timesteps

    def alphas_cumprod(self) -> Tensor:
        """float64 [T]."""
        config = self.config
        first, last = config.sigma_min ** (1 / config.rho), config.sigma_max ** (1 / config.rho)
        sigma = torch.linspace(last, first, self.timesteps, dtype=torch.float64).flip(0) ** config.rho
        return 1 / (1 + sigma**2)
