"""Betas that grow linearly, or whose square root does.

Ho et al. (2020), section 4 (https://arxiv.org/abs/2006.11239); the square root is that of latent diffusion, Rombach et
al. (2022), whose paper leaves it to its code (https://arxiv.org/abs/2112.10752).
"""

import torch
from torch import Tensor

from ddpmkit_plugins.linear import LinearConfig


class LinearSchedule:
    """The path of alpha_bar over `reference_timesteps` steps, walked in T strides.

    At T = `reference_timesteps` the betas are those of the config. At another T, log alpha_bar of that path is
    interpolated at T evenly spaced times, so that a short chain ends in noise just as the long one does.
    """

    power = 1
    """The root of beta that grows linearly."""

    def __init__(self, config: LinearConfig, *, timesteps: int) -> None:
        """`timesteps`: T."""
        self.config = config
        self.timesteps = timesteps

    def alphas_cumprod(self) -> Tensor:
        """float64 [T]."""
        count = self.config.reference_timesteps
        first, last = self.config.first_beta ** (1 / self.power), self.config.last_beta ** (1 / self.power)
        beta = torch.linspace(first, last, count, dtype=torch.float64) ** self.power
        path = torch.cat([beta.new_zeros(1), torch.log1p(-beta).cumsum(dim=0)])
        position = torch.arange(1, self.timesteps + 1, dtype=torch.float64) * (count / self.timesteps)
        below = position.floor().long().clamp(max=count - 1)
        return torch.lerp(path[below], path[below + 1], position - below).exp()


class ScaledLinearSchedule(LinearSchedule):
    """The same path, with betas whose square root grows linearly."""

    power = 2
