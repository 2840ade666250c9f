"""Layers that most backbones need: time embedding, label embedding, padding to a multiple."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LabelEmbedding", "SinusoidalEmbedding", "pad_to_multiple"]


class SinusoidalEmbedding(nn.Module):
    """sin and cos of t at geometrically spaced frequencies from 1 to 1/10,000: Vaswani et al. (2017), section 3.5.

    It has no weights, and its buffer is not part of the state dict.
    """

    frequencies: Tensor

    def __init__(self, dim: int, *, endpoint: bool = False, cos_first: bool = True) -> None:
        """`dim`: channels of the output, even; the first half is cos, the second is sin, unless `cos_first` is False.

        `endpoint`: frequency i is 10,000^(-i / (dim/2 - 1)), as in tensor2tensor, instead of 10,000^(-i / (dim/2)).
        """
        super().__init__()
        half = dim // 2
        exponent = torch.arange(half, dtype=torch.float64) / (max(half - 1, 1) if endpoint else half)
        self.cos_first = cos_first
        self.register_buffer("frequencies", torch.exp(-math.log(10_000) * exponent).float(), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Embed t [B], int64 or float -> float [B, dim]."""
        angle = t[:, None] * self.frequencies
        halves = [angle.cos(), angle.sin()] if self.cos_first else [angle.sin(), angle.cos()]
        return torch.cat(halves, dim=1)


class LabelEmbedding(nn.Embedding):
    """A vector for each class and one for the null label, which means "unconditional"."""

    def __init__(self, num_classes: int, dim: int) -> None:
        """The weight is [num_classes + 1, dim]. Its last row belongs to the null label, `num_classes`."""
        super().__init__(num_classes + 1, dim)

    def forward(self, input: Tensor | None) -> Tensor:
        """Embed label int64 [B] in 0 .. num_classes -> [B, dim]. None -> the vector of the null label [dim]."""
        return self.weight[-1] if input is None else super().forward(input)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad x [B, C, H, W] with zeros at the bottom and right until H and W are multiples of `multiple`.

    Crop the network's output to the size of x: `output[:, :, :height, :width]`.
    """
    height, width = x.shape[2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple))
