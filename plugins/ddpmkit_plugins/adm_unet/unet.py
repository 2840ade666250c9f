"""The U-Net of Dhariwal & Nichol (2021), "Diffusion Models Beat GANs on Image Synthesis", section 3."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape
from ddpmkit.nn import LabelEmbedding, SinusoidalEmbedding, pad_to_multiple
from ddpmkit_plugins.adm_unet import AdmUnetConfig
from ddpmkit_plugins.adm_unet.blocks import Resample, ResidualBlock, SelfAttention, Stage, zeroed


class AdmUnet(nn.Module):
    """The network of the backbone `adm-unet`. Any height and width works: it pads its input to a multiple."""

    def __init__(self, config: AdmUnetConfig, *, image_shape: ImageShape, num_classes: int, out_channels: int) -> None:
        """The weights depend on the channels of `image_shape`, not on its size. `num_classes` 0: unconditional."""
        super().__init__()
        time_dim = 4 * config.dim
        widths = [config.dim * multiplier for multiplier in config.multipliers]
        last = len(widths) - 1
        self.multiple = 2**last

        def block(dim_in: int, dim_out: int, resample: Resample | None = None) -> ResidualBlock:
            return ResidualBlock(
                dim_in, dim_out, time_dim=time_dim, groups=config.groups, dropout=config.dropout, resample=resample
            )

        def attention(width: int) -> SelfAttention:
            return SelfAttention(width, head_dim=config.head_dim, groups=config.groups)

        def stage(level: int, dim_in: int) -> Stage:
            width = widths[level]
            return Stage(block(dim_in, width), attention(width) if level in config.attention_levels else nn.Identity())

        self.time = nn.Sequential(
            SinusoidalEmbedding(config.dim), nn.Linear(config.dim, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim)
        )
        self.label = LabelEmbedding(num_classes, time_dim) if num_classes else None
        self.stem = nn.Conv2d(image_shape.channels, widths[0], 3, padding=1)

        # Every output of the encoder, and of the stem, is a skip connection to one stage of the decoder.
        self.down, width, skips = nn.ModuleList(), widths[0], [widths[0]]
        for level in range(len(widths)):
            for _ in range(config.blocks):
                self.down.append(stage(level, width))
                width = widths[level]
                skips.append(width)
            if level < last:
                self.down.append(block(width, width, "down"))
                skips.append(width)

        self.middle = nn.ModuleList([Stage(block(width, width), attention(width)), block(width, width)])

        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for _ in range(config.blocks + 1):
                self.up.append(stage(level, width + skips.pop()))
                width = widths[level]
            if level > 0:
                self.up.append(block(width, width, "up"))

        self.norm = nn.GroupNorm(config.groups, width)
        self.out = zeroed(nn.Conv2d(width, out_channels, 3, padding=1))
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

        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        skips = [x]
        for part in self.down:
            x = part(x, time)
            skips.append(x)
        for part in self.middle:
            x = part(x, time)
        for part in self.up:
            x = part(torch.cat([x, skips.pop()], dim=1) if isinstance(part, Stage) else x, time)
        out: Tensor = self.out(F.silu(self.norm(x)))
        return out[:, :, :height, :width]
