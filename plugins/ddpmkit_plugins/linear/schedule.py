"""Betas that grow linearly: Ho et al. (2020), section 4 (https://arxiv.org/abs/2006.11239)."""

import torch
from torch import Tensor

from ddpmkit_plugins.linear import LinearConfig


class LinearSchedule:
    """The path of alpha_bar over `reference_timesteps` steps, walked in T strides.

    At T = `reference_timesteps` the betas are those of the config. At another T, log alpha_bar of that path is
    interpolated at T evenly spaced times, so that a short chain ends in noise just as the long one does.
    """

    def __init__(self, config: LinearConfig, *, timesteps: int) -> None:
        """`timesteps`: T."""
        self.config = config
        self.timesteps = timesteps

    def alphas_cumprod(self) -> Tensor:
        """float64 [T]."""
        config = self.config
        beta = torch.linspace(config.first_beta, config.last_beta, config.reference_timesteps, dtype=torch.float64)
        path = torch.cat([beta.new_zeros(1), torch.log1p(-beta).cumsum(dim=0)])
        stride = config.reference_timesteps / self.timesteps
        position = torch.arange(1, self.timesteps + 1, dtype=torch.float64) * stride
        below = position.floor().long().clamp(max=config.reference_timesteps - 1)
        return torch.lerp(path[below], path[below + 1], position - below).exp()
