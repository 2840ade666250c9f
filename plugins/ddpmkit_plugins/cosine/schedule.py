"""alpha_bar as a squared cosine: Nichol & Dhariwal (2021), "Improved DDPM", eq. 17 (https://arxiv.org/abs/2102.09672)."""

import math

import torch
from torch import Tensor

from ddpmkit_plugins.cosine import CosineConfig


class CosineSchedule:
    """alpha_bar(t) = f(t) / f(0), f(t) = cos^2((t/T + s) / (1 + s) * pi/2), with betas clipped to `max_beta`.

    In the paper, `s` is 0.008 and `max_beta` is 0.999.
    """

    def __init__(self, config: CosineConfig, *, timesteps: int) -> None:
        """`timesteps`: T, 1 or more."""
        self.config = config
        self.timesteps = timesteps

    def alphas_cumprod(self) -> Tensor:
        """Return alpha_bar, float64 [T]. Clipping the betas keeps the last value above 0."""
        t = torch.arange(self.timesteps + 1, dtype=torch.float64) / self.timesteps
        f = torch.cos((t + self.config.s) / (1 + self.config.s) * math.pi / 2) ** 2
        beta = (1 - f[1:] / f[:-1]).clamp(max=self.config.max_beta)
        return torch.cumprod(1 - beta, dim=0)
