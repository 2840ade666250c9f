"""A schedule whose log alpha_bar falls in waves, and never rises."""

import math

import torch
from torch import Tensor

from ddpmkit_acme import ZigzagConfig


class ZigzagSchedule:
    """alpha_bar(u) = exp(-10 w(u)), w(u) = u + depth sin(8 pi u) / (8 pi), whose slope is never negative."""

    def __init__(self, config: ZigzagConfig, *, timesteps: int) -> None:
        """`timesteps`: T, 1 or more."""
        self.config = config
        self.timesteps = timesteps

    def alphas_cumprod(self) -> Tensor:
        """float64 [T]."""
        u = torch.arange(1, self.timesteps + 1, dtype=torch.float64) / self.timesteps
        return torch.exp(-10 * (u + self.config.depth * torch.sin(8 * math.pi * u) / (8 * math.pi)))
