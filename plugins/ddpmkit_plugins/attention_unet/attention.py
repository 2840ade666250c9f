"""Attention over the pixels of a feature map, with linear or with quadratic cost in their number."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class LinearAttention(nn.Module):
    """Attention in linear time, with a skip: Shen et al. (2021), "Efficient Attention", https://arxiv.org/abs/1812.01243.

    softmax(q) is over channels and softmax(k) is over pixels, so (softmax(k)^T v) is a small matrix for each head.
    """

    def __init__(self, dim: int, *, heads: int, head_dim: int) -> None:
        """`dim`: channels of input and output."""
        super().__init__()
        self.heads = heads
        self.scale = head_dim**-0.5
        self.norm = nn.GroupNorm(1, dim)
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, heads * head_dim, bias=False) for _ in range(3))
        self.to_out = nn.Linear(heads * head_dim, dim)
        self.norm_out = nn.GroupNorm(1, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, dim, H, W] -> [B, dim, H, W]."""
        # "b n c" is the memory layout of channels_last, so no large tensor is copied. For each head,
        # to_out(q (k^T v)) = q (k^T pixels) W_v W_out, so v is not computed for each pixel.
        height = x.shape[2]
        pixels = rearrange(self.norm(x), "b c y x -> b (y x) c")
        q = rearrange(self.to_q(pixels), "b n (h d) -> b n h d", h=self.heads).softmax(dim=3).flatten(2)
        k = self.to_k(pixels).softmax(dim=1)
        keyed = rearrange(pixels.transpose(1, 2) @ k, "b c (h d) -> b h d c", h=self.heads)
        w_v = rearrange(self.to_v.weight, "(h e) c -> h c e", h=self.heads)
        w_out = rearrange(self.to_out.weight, "c (h e) -> h e c", h=self.heads) * self.scale
        values = torch.einsum("bhdc, hce, hef -> bhdf", keyed, w_v, w_out).flatten(1, 2)
        out = q @ values + self.to_out.bias
        projected: Tensor = self.norm_out(rearrange(out, "b (y x) c -> b c y x", y=height))
        return x + projected


class FullAttention(nn.Module):
    """Multi-head self-attention with a skip: Vaswani et al. (2017), eq. 1."""

    def __init__(self, dim: int, *, heads: int, head_dim: int) -> None:
        """`dim`: channels of input and output."""
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(1, dim)
        self.to_qkv = nn.Conv2d(dim, 3 * heads * head_dim, 1, bias=False)
        self.to_out = nn.Conv2d(heads * head_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, dim, H, W] -> [B, dim, H, W]."""
        qkv = self.to_qkv(self.norm(x))
        q, k, v = rearrange(qkv, "b (three h c) y x -> three b h (y x) c", three=3, h=self.heads)
        out: Tensor = F.scaled_dot_product_attention(q, k, v)
        height = x.shape[2]
        projected: Tensor = self.to_out(rearrange(out, "b h (y x) c -> b (h c) y x", y=height))
        return x + projected
