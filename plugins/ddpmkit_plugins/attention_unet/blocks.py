"""Residual blocks: weight-standardized convolution, group norm, FiLM from the time embedding, SiLU."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WeightStandardizedConv2d(nn.Conv2d):
    """A convolution whose filters are standardized to mean 0 and variance 1.

    Qiao et al. (2019), "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization"
    (https://arxiv.org/abs/1903.10520). It works well with group norm, which removes the scale of the filters anyway.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, H, W]."""
        # Layer norm over a filter standardizes it in one kernel. The permutation is the memory layout of channels_last.
        filters = self.weight.permute(0, 2, 3, 1)
        weight = F.layer_norm(filters, filters.shape[1:], eps=1e-5).permute(0, 3, 1, 2)
        out: Tensor = self._conv_forward(input, weight, self.bias)
        return out


class ResidualBlock(nn.Module):
    """Two convolution blocks and a skip. The time embedding scales and shifts the first: Perez et al. (2018), FiLM."""

    def __init__(self, dim_in: int, dim_out: int, *, time_dim: int, groups: int) -> None:
        """`dim_in`, `dim_out`: channels of input and output. `groups` must divide `dim_out`."""
        super().__init__()
        self.film = nn.Linear(time_dim, 2 * dim_out)
        self.conv1 = WeightStandardizedConv2d(dim_in, dim_out, 3, padding=1)
        self.norm1 = nn.GroupNorm(groups, dim_out)
        self.conv2 = WeightStandardizedConv2d(dim_out, dim_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, dim_out)
        self.skip = nn.Identity() if dim_in == dim_out else nn.Conv2d(dim_in, dim_out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x [B, dim_in, H, W], time embedding [B, time_dim] after its activation -> [B, dim_out, H, W]."""
        scale, shift = self.film(time)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(torch.addcmul(shift, self.norm1(self.conv1(x)), scale + 1))
        h = F.silu(self.norm2(self.conv2(h)))
        return h + cast(Tensor, self.skip(x))
