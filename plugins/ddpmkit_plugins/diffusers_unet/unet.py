"""`diffusers.UNet2DModel` as a backbone of ddpmkit."""

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape
from ddpmkit.nn import pad_to_multiple
from ddpmkit_plugins.diffusers_unet import DiffusersUnetConfig


class DiffusersUnet(nn.Module):
    """The network of the backbone `diffusers-unet`. Any height and width works: it pads its input to a multiple.

    `unet` is the `UNet2DModel`; its state dict can be exchanged with any other `UNet2DModel` of the same configuration.
    """

    def __init__(
        self, config: DiffusersUnetConfig, *, image_shape: ImageShape, num_classes: int, out_channels: int
    ) -> None:
        """The weights depend on the channels of `image_shape`, not on its size. `num_classes` 0: unconditional."""
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
            # The additional row is the null label.
            num_class_embeds=num_classes + 1 if num_classes else None,
        )
        for weight in self.unet.conv_out.parameters():
            nn.init.zeros_(weight)

    def outer_layers(self) -> tuple[nn.Module, ...]:
        """The first and the last layer."""
        return (self.unet.conv_in, self.unet.conv_out)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """x [B, C, H, W], t int64 [B], label int64 [B] or None -> [B, out_channels, H, W].

        Label `num_classes` is the null label; None means the null label for all images.
        """
        height, width = x.shape[2:]
        x = pad_to_multiple(x, self.multiple)
        if not self.num_classes:
            label = None
        elif label is None:
            label = torch.full_like(t, self.num_classes)
        (out,) = self.unet(x, t, label, return_dict=False)
        cropped: Tensor = out[:, :, :height, :width]
        return cropped
