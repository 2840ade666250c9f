"""Attention over the pixels of a feature map: linear in their number, or full."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class LinearAttention(nn.Module):
    """Linear-time attention with a residual: Shen et al. (2021), "Efficient Attention", https://arxiv.org/abs/1812.01243.

    softmax(q) over channels, softmax(k) over pixels, so that (softmax(k) v^T) is one small matrix a head.
    """

    def __init__(self, dim: int, *, heads: int, head_dim: int) -> None:
        """`dim`: channels in and out."""
        super().__init__()
        self.heads = heads
        self.scale = head_dim**-0.5
        self.norm = nn.GroupNorm(1, dim)
        self.to_qkv = nn.Conv2d(dim, 3 * heads * head_dim, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(heads * head_dim, dim, 1), nn.GroupNorm(1, dim))

    def forward(self, x: Tensor) -> Tensor:
        """[B, dim, H, W] -> the same."""
        qkv = self.to_qkv(self.norm(x))
        q, k, v = rearrange(qkv, "b (three h c) y x -> three b h (y x) c", three=3, h=self.heads)
        context = k.softmax(dim=2).transpose(2, 3) @ v
        out = (q.softmax(dim=3) * self.scale) @ context
        height = x.shape[2]
        projected: Tensor = self.to_out(rearrange(out, "b h (y x) c -> b (h c) y x", y=height))
        return x + projected


class FullAttention(nn.Module):
    """Ordinary self-attention with a residual: Vaswani et al. (2017), eq. 1."""

    def __init__(self, dim: int, *, heads: int, head_dim: int) -> None:
        """`dim`: channels in and out."""
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(1, dim)
        self.to_qkv = nn.Conv2d(dim, 3 * heads * head_dim, 1, bias=False)
        self.to_out = nn.Conv2d(heads * head_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, dim, H, W] -> the same."""
        qkv = self.to_qkv(self.norm(x))
        q, k, v = rearrange(qkv, "b (three h c) y x -> three b h (y x) c", three=3, h=self.heads)
        out: Tensor = F.scaled_dot_product_attention(q, k, v)
        height = x.shape[2]
        projected: Tensor = self.to_out(rearrange(out, "b h (y x) c -> b (h c) y x", y=height))
        return x + projected
