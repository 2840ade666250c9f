"""The U-Net: levels of two residual blocks, each with a skip connection, and attention.

Ronneberger et al. (2015) in the form of Ho et al. (2020), appendix B, with the blocks of this package.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape
from ddpmkit.nn import LabelEmbedding, SinusoidalEmbedding, pad_to_multiple
from ddpmkit_plugins.attention_unet import AttentionUnetConfig
from ddpmkit_plugins.attention_unet.attention import FullAttention, LinearAttention
from ddpmkit_plugins.attention_unet.blocks import ResidualBlock


class Level(nn.Module):
    """Two residual blocks, attention, and a change of resolution."""

    def __init__(self, first: ResidualBlock, second: ResidualBlock, attention: nn.Module, resample: nn.Module) -> None:
        """The four parts, in the order of `forward`."""
        super().__init__()
        self.first, self.second, self.attention, self.resample = first, second, attention, resample


class Down(Level):
    """A level of the encoder. The outputs of both blocks are skip connections."""

    def forward(self, x: Tensor, time: Tensor, skips: list[Tensor]) -> Tensor:
        """x [B, C, H, W] -> [B, C', H', W'] of the next level. `skips` is modified."""
        x = self.first(x, time)
        skips.append(x)
        x = self.attention(self.second(x, time))
        skips.append(x)
        out: Tensor = self.resample(x)
        return out


class Up(Level):
    """A level of the decoder. Each block takes the last skip connection."""

    def forward(self, x: Tensor, time: Tensor, skips: list[Tensor]) -> Tensor:
        """x [B, C, H, W] -> [B, C', H', W'] of the next level. `skips` is modified."""
        x = self.first(torch.cat([x, skips.pop()], dim=1), time)
        x = self.attention(self.second(torch.cat([x, skips.pop()], dim=1), time))
        out: Tensor = self.resample(x)
        return out


class AttentionUnet(nn.Module):
    """The network of the backbone `attention-unet`. Any height and width works: it pads its input to a multiple."""

    def __init__(
        self, config: AttentionUnetConfig, *, image_shape: ImageShape, num_classes: int, out_channels: int
    ) -> None:
        """The weights depend on the channels of `image_shape`, not on its size. `num_classes` 0: unconditional."""
        super().__init__()
        dim, heads, head_dim = config.dim, config.heads, config.head_dim
        time_dim = 4 * dim
        widths = [dim * multiplier for multiplier in config.multipliers]
        last = len(widths) - 1
        self.multiple = 2**last

        def block(dim_in: int, dim_out: int) -> ResidualBlock:
            return ResidualBlock(dim_in, dim_out, time_dim=time_dim, groups=config.groups)

        def attention(level: int, width: int) -> nn.Module:
            if level not in config.linear_attention_levels:
                return nn.Identity()
            return LinearAttention(width, heads=heads, head_dim=head_dim)

        self.time = nn.Sequential(
            SinusoidalEmbedding(dim, endpoint=True, cos_first=False),
            nn.Linear(dim, time_dim),
            nn.GELU(),
            nn.Linear(time_dim, time_dim),
        )
        self.label = LabelEmbedding(num_classes, time_dim) if num_classes else None
        self.stem = nn.Conv2d(image_shape.channels, dim, 7, padding=3)

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (wide, narrow) in enumerate(zip(widths, [dim, *widths[:-1]], strict=True)):
            halve = nn.Conv2d(narrow, wide, 3, padding=1) if level == last else nn.Conv2d(narrow, wide, 4, 2, 1)
            self.down.append(Down(block(narrow, narrow), block(narrow, narrow), attention(level, narrow), halve))
            double = nn.Sequential(
                nn.Identity() if level == 0 else nn.Upsample(scale_factor=2, mode="nearest"),
                nn.Conv2d(wide, narrow, 3, padding=1),
            )
            first, second = block(wide + narrow, wide), block(wide + narrow, wide)
            self.up.insert(0, Up(first, second, attention(level, wide), double))

        self.middle_first = block(widths[-1], widths[-1])
        self.middle_attention = FullAttention(widths[-1], heads=heads, head_dim=head_dim)
        self.middle_second = block(widths[-1], widths[-1])
        self.head = block(2 * dim, dim)
        self.out = nn.Conv2d(dim, out_channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]  # the convolution was built with a bias
        self.to(memory_format=torch.channels_last)

    def outer_layers(self) -> tuple[nn.Module, ...]:
        """The first and the last layer."""
        return (self.stem, self.out)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """x [B, C, H, W], t int64 [B], label int64 [B] or None -> [B, out_channels, H, W].

        Label `num_classes` is the null label; None means the null label for all images.
        """
        height, width = x.shape[2:]
        x = pad_to_multiple(x, self.multiple)
        time = self.time(t)
        if self.label is not None:
            time = time + self.label(label)
        time = F.silu(time)

        x = stem = self.stem(x.contiguous(memory_format=torch.channels_last))
        skips: list[Tensor] = []
        for level in self.down:
            x = level(x, time, skips)
        x = self.middle_second(self.middle_attention(self.middle_first(x, time)), time)
        for level in self.up:
            x = level(x, time, skips)
        x = self.head(torch.cat([x, stem], dim=1), time)
        out: Tensor = self.out(x)
        return out[:, :, :height, :width]
