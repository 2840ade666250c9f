"""The exponential moving average of the weights.

Only weights: a schedule's buffers are functions of the recipe and are never averaged. It does not know the optimizer.
"""

import copy

import torch
from torch import Tensor, nn

__all__ = ["Ema", "decay_at"]


def decay_at(step: int, decay: float) -> float:
    """The decay after `step` updates (from 1), warmed up as (1 + n) / (10 + n), so that early averages forget fast.

    The warm-up is that of TensorFlow's `ExponentialMovingAverage`.
    """
    return min(decay, (1 + step) / (10 + step))


class Ema:
    """A second copy of the network that follows the first."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """`decay` in (0, 1): the share of the average that one step keeps, once warm."""
        self.decay = decay
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """average += (1 - decay) (weights - average), after optimizer step `step` (from 1)."""
        averages: list[Tensor] = list(self.network.parameters())
        weights: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay_at(step, self.decay))
        for average, value in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(value)
