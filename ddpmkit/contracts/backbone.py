"""The contract of a backbone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Backbone", "LayeredBackbone"]


class Backbone(Protocol):
    """The network, a `torch.nn.Module`.

    Built with `image_shape: ImageShape` of what it sees, `num_classes: int` (0: unconditional), `out_channels: int`.
    """

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        """x float [B, C, H, W], t int64 [B] in 0 .. T-1, label int64 [B] or None -> [B, out_channels, H, W].

        C is `image_shape.channels`, and says nothing of `out_channels`: under `diffusion.self_conditioning` an estimate
        of the clean image lies behind the noisy one, and C is twice the image's. Clean images lie in [-1, 1]. Any H and
        W of 8 or more must work. Labels are 0 .. num_classes; the last of them, num_classes itself, says that the class
        is not told. None is the same for all images.
        """
        ...


@runtime_checkable
class LayeredBackbone(Protocol):
    """A backbone that says which of its layers are the first and the last. It need not; `train.optimizer` asks."""

    def outer_layers(self) -> Iterable[nn.Module]:
        """The layers whose weights map the image to features, and features to the answer.

        Muon leaves them to Adam. Of a backbone without this method it leaves those with fewer than 8 inputs or outputs.
        """
        ...
