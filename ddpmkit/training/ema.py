"""Moving averages of the weights: exponential ones, and those whose length grows with training.

Only weights: a schedule's buffers are functions of the recipe and are never averaged. It does not know the optimizer.
"""

import copy
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ddpmkit.recipe import TrainSection, WeightsChoice
from ddpmkit.training.posthoc_ema import exponent

__all__ = ["Average", "Ema", "PowerEma", "build_averages", "decay_at"]


def decay_at(step: int, decay: float) -> float:
    """The decay after `step` updates (from 1), warmed up as (1 + n) / (10 + n), so that early averages forget fast.

    The warm-up is that of TensorFlow's `ExponentialMovingAverage`.
    """
    return min(decay, (1 + step) / (10 + step))


class Average(ABC):
    """A second copy of the network that follows the first."""

    def __init__(self, network: nn.Module) -> None:
        """It begins where the network is."""
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    @abstractmethod
    def kept(self, step: int) -> float:
        """The share of the average that optimizer step `step` (from 1) keeps."""

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """average += (1 - kept) (weights - average), after optimizer step `step` (from 1)."""
        averages: list[Tensor] = list(self.network.parameters())
        weights: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(averages, weights, 1 - self.kept(step))
        for average, value in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(value)


class Ema(Average):
    """The exponential moving average, which remembers the same number of steps throughout training."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """`decay` in (0, 1): the share of the average that one step keeps, once warm."""
        super().__init__(network)
        self.decay = decay

    def kept(self, step: int) -> float:
        """`decay`, once warm."""
        return decay_at(step, self.decay)


class PowerEma(Average):
    """An average whose profile is a power of the step, so that it remembers the same share of training at any length.

    Karras et al. (2024), "Analyzing and Improving the Training Dynamics of Diffusion Models", section 3.1
    (https://arxiv.org/abs/2312.02696).
    """

    def __init__(self, network: nn.Module, sigma_rel: float) -> None:
        """`sigma_rel`: the standard deviation of the profile, relative to the length of training."""
        super().__init__(network)
        self.exponent = exponent(sigma_rel)

    def kept(self, step: int) -> float:
        """beta = (1 - 1/t)^(gamma + 1), eq. 2; 0 at the first step, so that the initial weights have no part in it."""
        return float((1 - 1 / step) ** (self.exponent + 1))


def build_averages(network: nn.Module, settings: TrainSection) -> dict[WeightsChoice, Average]:
    """All averages that the recipe keeps; none of them is `raw`."""
    kept: dict[WeightsChoice, Average] = {}
    if settings.ema_decay:
        kept[WeightsChoice("ema")] = Ema(network, settings.ema_decay)
    kept |= {WeightsChoice("decay", decay): Ema(network, decay) for decay in settings.ema_decays}
    return kept | {WeightsChoice("sigma_rel", width): PowerEma(network, width) for width in settings.ema_sigma_rels}
