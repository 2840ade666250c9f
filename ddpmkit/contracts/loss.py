"""The contract of a loss. It does not know how the prediction was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Loss", "VarianceLoss"]


class Loss(Protocol):
    """How wrong a prediction is. Built with `prediction: Prediction`, the parameterisation it will see."""

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        """prediction and target float [B, C, H, W], alpha_bar float [B] at each sample's t -> loss of each sample [B].

        Weighting by timestep is the loss's own affair: alpha_bar / (1 - alpha_bar) is the signal-to-noise ratio. In a
        run alpha_bar is float64 (on a device that has it), since in float32 it is 1 at the first steps of some
        schedules. The loss may be of either precision.
        """
        ...


class VarianceLoss(Loss, Protocol):
    """A loss that teaches the network the variance of a step besides: its component provides `learned-variance`.

    The network then answers in twice the channels; the second half says where between two bounds the variance lies.
    """

    def with_bound(self, losses: Tensor, bound: Tensor) -> Tensor:
        """The losses [B] of `__call__`, and the variational bound [B] in bits a number -> losses [B]."""
        ...
