"""The adaLN-zero block and the final layer: Peebles & Xie (2023), figure 3 and section 3.2."""

from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Modulation(nn.Module):
    """Linear map from the condition to shifts, scales and gates, initialized to 0."""

    def __init__(self, dim: int, count: int) -> None:
        """`count`: number of vectors of `dim` channels."""
        super().__init__()
        self.count = count
        self.linear = nn.Linear(dim, count * dim)

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        """[B, dim] -> a tuple of `count` tensors [B, 1, dim]."""
        return cast(Tensor, self.linear(F.silu(condition)))[:, None].chunk(self.count, dim=2)


class SelfAttention(nn.Module):
    """Multi-head self-attention over the tokens: Vaswani et al. (2017), eq. 1."""

    def __init__(self, dim: int, heads: int) -> None:
        """`heads` must divide `dim`."""
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.to_out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        q, k, v = rearrange(self.to_qkv(x), "b n (three h c) -> three b h n c", three=3, h=self.heads)
        out = F.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.to_out(rearrange(out, "b h n c -> b n (h c)")))


class Block(nn.Module):
    """Attention and a feed-forward layer, each normalized, modulated and gated by the condition.

    The gates are initialized to 0, so a new block is the identity.
    """

    def __init__(self, dim: int, *, heads: int, mlp_ratio: float) -> None:
        """`heads` must divide `dim`."""
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.modulation = Modulation(dim, 6)
        self.attention = SelfAttention(dim, heads)
        self.feed_forward = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, dim))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [B, N, dim], condition [B, dim] -> [B, N, dim]."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)
        x = x + gate1 * self.attention(modulated(x, shift1, scale1))
        out: Tensor = x + gate2 * self.feed_forward(modulated(x, shift2, scale2))
        return out


class FinalLayer(nn.Module):
    """From tokens to the pixels of their patches, initialized to 0."""

    def __init__(self, dim: int, channels: int) -> None:
        """`channels`: pixels times channels of a patch."""
        super().__init__()
        self.modulation = Modulation(dim, 2)
        self.linear = nn.Linear(dim, channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [B, N, dim], condition [B, dim] -> [B, N, channels]."""
        return cast(Tensor, self.linear(modulated(x, *self.modulation(condition))))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm of x [B, N, dim], times 1 + scale [B, 1, dim], plus shift [B, 1, dim]."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), scale + 1)
