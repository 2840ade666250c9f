"""The parts of the ADM U-Net: Dhariwal & Nichol (2021), "Diffusion Models Beat GANs", section 3.

https://arxiv.org/abs/2105.05233. The last layer of every residual branch is initialized to zero, so each block starts
as its skip alone.
"""

from typing import Literal, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

Resample = Literal["down", "up"]
"""down: average pooling of 2x2 pixels; up: nearest-neighbour upsampling by 2."""


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """Set weights and bias of the layer to 0, and return it."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer


class ResidualBlock(nn.Module):
    """Two convolutions with adaptive group norm between them, and a skip.

    AdaGN(h, y) = y_s GroupNorm(h) + y_b: equation in section 3.1, with y_s written as 1 + scale. A block that resamples
    does so before the first convolution, in the branch and in the skip: Brock et al. (2019), BigGAN, figure 15
    (https://arxiv.org/abs/1809.11096).
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        *,
        time_dim: int,
        groups: int,
        dropout: float,
        resample: Resample | None = None,
    ) -> None:
        """`dim_in`, `dim_out`: channels of input and output. `groups` must divide both."""
        super().__init__()
        self.resample = resample
        self.norm1 = nn.GroupNorm(groups, dim_in)
        self.conv1 = nn.Conv2d(dim_in, dim_out, 3, padding=1)
        self.scale_shift = nn.Linear(time_dim, 2 * dim_out)
        self.norm2 = nn.GroupNorm(groups, dim_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(nn.Conv2d(dim_out, dim_out, 3, padding=1))
        self.skip = nn.Identity() if dim_in == dim_out else nn.Conv2d(dim_in, dim_out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x [B, dim_in, H, W], time embedding [B, time_dim] after its activation -> [B, dim_out, H', W']."""
        h = self.conv1(self._resampled(F.silu(self.norm1(x))))
        scale, shift = self.scale_shift(time)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(torch.addcmul(shift, self.norm2(h), scale + 1))
        h = self.conv2(self.dropout(h))
        return cast(Tensor, h + self.skip(self._resampled(x)))

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        return x


class SelfAttention(nn.Module):
    """Multi-head self-attention over the pixels, with a skip: Vaswani et al. (2017), eq. 1."""

    def __init__(self, dim: int, *, head_dim: int, groups: int) -> None:
        """`dim`: channels of input and output, a multiple of `head_dim`."""
        super().__init__()
        self.heads = dim // head_dim
        self.norm = nn.GroupNorm(groups, dim)
        self.to_qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.to_out = zeroed(nn.Conv2d(dim, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, dim, H, W] -> [B, dim, H, W]."""
        qkv = self.to_qkv(self.norm(x))
        q, k, v = rearrange(qkv, "b (three h c) y x -> three b h (y x) c", three=3, h=self.heads)
        out = rearrange(F.scaled_dot_product_attention(q, k, v), "b h (y x) c -> b (h c) y x", y=x.shape[2])
        return x + cast(Tensor, self.to_out(out))


class Stage(nn.Module):
    """A residual block, then attention if the level has it."""

    def __init__(self, block: ResidualBlock, attention: nn.Module) -> None:
        """The two parts, in the order of `forward`. `attention` may be the identity."""
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x [B, dim_in, H, W], time embedding [B, time_dim] -> [B, dim_out, H, W]."""
        out: Tensor = self.attention(self.block(x, time))
        return out
