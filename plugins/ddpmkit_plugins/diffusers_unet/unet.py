"""A foreign network in ddpmkit's contract: `diffusers.UNet2DModel`, padded to sizes that it can halve."""

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape
from ddpmkit.nn import pad_to_multiple
from ddpmkit_plugins.diffusers_unet import DiffusersUnetConfig


class DiffusersUnet(nn.Module):
    """Predicts from (x_t, t) at any height and width: sizes that do not halve evenly are padded inside.

    `unet` is the wrapped model, as others know it: its weights go to and from any other `UNet2DModel` of its shape.
    """

    def __init__(
        self, config: DiffusersUnetConfig, *, image_shape: ImageShape, num_classes: int, out_channels: int
    ) -> None:
        """The weights depend on `image_shape.channels` only; `num_classes` 0 means unconditional."""
        super().__init__()
        levels = range(len(config.block_out_channels))
        attends = [level in config.attention_levels for level in levels]
        self.multiple = 2 ** levels[-1]
        self.num_classes = num_classes
        self.unet = UNet2DModel(
            in_channels=image_shape.channels,
            out_channels=out_channels,
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attends),
            up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
            attention_head_dim=config.attention_head_dim,
            norm_num_groups=config.norm_num_groups,
            dropout=config.dropout,
            # The row beyond the classes stands for no class.
            num_class_embeds=num_classes + 1 if num_classes else None,
        )
        for weight in self.unet.conv_out.parameters():
            nn.init.zeros_(weight)

    def outer_layers(self) -> tuple[nn.Module, ...]:
        """The first and the last."""
        return (self.unet.conv_in, self.unet.conv_out)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """x [B, C, H, W], t int64 [B], label int64 [B] or None -> [B, out_channels, H, W].

        Label `num_classes` means no class, and so does None.
        """
        height, width = x.shape[2:]
        x = pad_to_multiple(x, self.multiple)
        if not self.num_classes:
            label = None
        elif label is None:
            label = torch.full_like(t, self.num_classes)
        (out,) = self.unet(x, t, label, return_dict=False)
        answer: Tensor = out[:, :, :height, :width]
        return answer
