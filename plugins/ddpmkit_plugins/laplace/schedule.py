"""Log-SNRs at the quantiles of a Laplace distribution: Hang et al. (2024), table 1 (https://arxiv.org/abs/2407.03297)."""

import torch
from torch import Tensor

from ddpmkit_plugins.laplace import LaplaceConfig


class LaplaceSchedule:
    """log SNR(u) = mean - scale sgn(1/2 - u) ln(1 - 2 |u - 1/2|) at u = 1/(T + 1) .. T/(T + 1).

    At u = 0 and u = 1 it is infinite.
    """

    def __init__(self, config: LaplaceConfig, *, timesteps: int) -> None:
        """`timesteps`: T, 1 or more."""
        self.config = config
        self.timesteps = timesteps

    def alphas_cumprod(self) -> Tensor:
        """Return alpha_bar, float64 [T]."""
        u = torch.arange(1, self.timesteps + 1, dtype=torch.float64) / (self.timesteps + 1)
        quantile = torch.sign(0.5 - u) * torch.log1p(-2 * (u - 0.5).abs())
        return torch.sigmoid(self.config.mean - self.config.scale * quantile)
