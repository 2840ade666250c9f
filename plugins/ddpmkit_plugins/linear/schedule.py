"""Betas that grow linearly, or whose square root grows linearly.

Linear: Ho et al. (2020), section 4 (https://arxiv.org/abs/2006.11239). Square root: latent diffusion, Rombach et al.
(2022), in the code but not in the paper (https://arxiv.org/abs/2112.10752).
"""

import torch
from torch import Tensor

from ddpmkit_plugins.linear import LinearConfig


class LinearSchedule:
    """alpha_bar of betas that grow linearly over `reference_timesteps` timesteps.

    If T = `reference_timesteps`, the betas are those of the config. For another T, log alpha_bar is interpolated at T
    evenly spaced times, so that a short process ends at the same noise level as a long one.
    """

    power = 1
    """beta^(1/power) grows linearly."""

    def __init__(self, config: LinearConfig, *, timesteps: int) -> None:
        """`timesteps`: T, 1 or more."""
        self.config = config
        self.timesteps = timesteps

    def alphas_cumprod(self) -> Tensor:
        """Return alpha_bar, float64 [T]."""
        count = self.config.reference_timesteps
        first, last = self.config.first_beta ** (1 / self.power), self.config.last_beta ** (1 / self.power)
        beta = torch.linspace(first, last, count, dtype=torch.float64) ** self.power
        path = torch.cat([beta.new_zeros(1), torch.log1p(-beta).cumsum(dim=0)])
        position = torch.arange(1, self.timesteps + 1, dtype=torch.float64) * (count / self.timesteps)
        below = position.floor().long().clamp(max=count - 1)
        return torch.lerp(path[below], path[below + 1], position - below).exp()


class ScaledLinearSchedule(LinearSchedule):
    """The same, with betas whose square root grows linearly."""

    power = 2
