"""The contract of a backbone: the network that predicts eps, x0 or v from a noised image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Backbone", "LayeredBackbone"]


class Backbone(Protocol):
    """The network, a `torch.nn.Module`.

    Built with `image_shape: ImageShape`, the shape of its input; `num_classes: int`, the number of classes (0 for an
    unconditional model); and `out_channels: int`, the number of channels of its output.
    """

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        """Return the prediction for x at timestep t, float [B, out_channels, H, W], on the device of x.

        `x`: noisy images, float32 [B, C, H, W], where C = `image_shape.channels`. Clean images are in [-1, 1]. With
        `diffusion.self_conditioning`, x is the noisy image and an estimate of the clean image, concatenated along the
        channels in this order, so C is twice the number of channels of an image. H and W can be any size of 8 or more,
        not only the size in `image_shape`.

        `t`: timesteps, int64 [B], 0 .. T-1.

        `label`: class labels, int64 [B], 0 .. num_classes. The label num_classes is the null label (unconditional).
        None means the null label for all images.

        The result must depend only on the arguments, the weights and buffers, and torch's default generators. On CUDA,
        calls are captured in a graph, which repeats the kernels of one call without its Python code. A network that
        waits for the device (`.item()`, a branch on a value of a tensor) cannot be captured. It works, but more slowly.
        """
        ...


@runtime_checkable
class LayeredBackbone(Protocol):
    """Optional for a backbone: declares the first and the last layers, for `train.optimizer = "muon"`."""

    def outer_layers(self) -> Iterable[nn.Module]:
        """Return the layers that map the image to features, and the layers that map features to the output.

        Adam trains these layers, and Muon trains the hidden layers. Without this method, Adam trains layers with fewer
        than 8 inputs or outputs.
        """
        ...
