"""alpha_bar as a section of the sigmoid: Jabri et al. (2022), algorithm 3 (https://arxiv.org/abs/2212.11972)."""

import torch
from torch import Tensor

from ddpmkit_plugins.sigmoid import SigmoidConfig


class SigmoidSchedule:
    """alpha_bar(t) = (g(1) - g(t)) / (g(1) - g(0)), g(t) = sigmoid((start + t (end - start)) / tau).

    t runs from 0 to 1. The betas are clipped to `max_beta`.
    """

    def __init__(self, config: SigmoidConfig, *, timesteps: int) -> None:
        """`timesteps`: T, 1 or more."""
        self.config = config
        self.timesteps = timesteps

    def alphas_cumprod(self) -> Tensor:
        """Return alpha_bar, float64 [T]. Clipping the betas keeps the last value above 0."""
        config = self.config
        t = torch.arange(self.timesteps + 1, dtype=torch.float64) / self.timesteps
        g = torch.sigmoid((config.start + t * (config.end - config.start)) / config.tau)
        f = (g[-1] - g) / (g[-1] - g[0])
        beta = (1 - f[1:] / f[:-1]).clamp(max=config.max_beta)
        return torch.cumprod(1 - beta, dim=0)
