"""The contract of a loss: it compares the output of the network with the training target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Loss", "VarianceLoss"]


class Loss(Protocol):
    """A training loss. Built with `prediction: Prediction`: what the network predicts."""

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        """Return one loss per image, float [B], on the device of `prediction`. The core averages over the batch.

        `prediction`, `target`: float32 [B, C, H, W]. `alpha_bar`: float [B], alpha_bar at the timestep of each image.

        A loss may weight timesteps: the signal-to-noise ratio is alpha_bar / (1 - alpha_bar). In a run, alpha_bar is
        float64 if the device supports it, because in float32 it is 1 at the first timesteps of some schedules. The
        losses may be float32 or float64, and must have a gradient with respect to `prediction`.

        They must depend only on the arguments: on CUDA, a graph repeats the kernels of a call without its Python code.
        """
        ...


class VarianceLoss(Loss, Protocol):
    """A loss that also trains the variance of the reverse step. Its component provides `learned-variance`.

    The network then has twice the output channels. The second half interpolates the variance between its two bounds
    (Nichol & Dhariwal 2021, eq. 15).
    """

    def with_bound(self, losses: Tensor, bound: Tensor) -> Tensor:
        """Return one loss per image from the losses of `__call__` and the variational bound, float [B] each.

        The bound is in bits per dimension.
        """
        ...
