"""Moving averages of the weights: exponential (EMA), or with a power-function profile (EDM2).

A power-function average becomes longer during training: it is always over the same fraction of the steps.
Only parameters are averaged. Buffers of the network, such as running statistics, are copied.
"""

import copy
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ddpmkit.recipe import TrainSection, WeightsChoice
from ddpmkit.training.posthoc_ema import exponent

__all__ = ["Average", "Ema", "PowerEma", "build_averages", "warmed_up_decay"]


def warmed_up_decay(step: int, decay: float) -> float:
    """Return the decay after `step` updates (from 1): min(decay, (1 + step) / (10 + step)).

    With this warm-up, the initial weights soon lose their effect.

    TensorFlow's `ExponentialMovingAverage` has the same warm-up.
    """
    return min(decay, (1 + step) / (10 + step))


class Average(ABC):
    """A copy of the network whose parameters are averaged over training steps."""

    def __init__(self, network: nn.Module) -> None:
        """Start at the current weights."""
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    @abstractmethod
    def decay_at(self, step: int) -> float:
        """Return the weight of the previous average at optimizer step `step` (from 1)."""

    @torch.no_grad()
    def update(self, network: nn.Module, weight: Tensor) -> None:
        """Compute average += weight (weights - average), without a transfer to the host.

        `weight`: float32 [] on the device, 1 - `decay_at(step)`. With 0, the average does not change, nor do buffers.
        """
        averages: list[Tensor] = list(self.network.parameters())
        values: list[Tensor] = list(network.parameters())
        # torch._foreach_lerp_ takes no weight on the device.
        if weight.device.type == "cpu":
            for average, value in zip(averages, values, strict=True):  # one pass over the memory
                average.lerp_(value, weight.to(average.dtype))
        else:
            differences = torch._foreach_sub(values, averages)  # few kernels
            # With another dtype, the host would read the weight.
            torch._foreach_mul_(differences, weight.to(differences[0].dtype))
            torch._foreach_add_(averages, differences)
        for average, value in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(torch.where(weight > 0, value, average))


class Ema(Average):
    """An exponential moving average: its length in steps is the same throughout training."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """`decay` in (0, 1) is reached after the warm-up."""
        super().__init__(network)
        self.decay = decay

    def decay_at(self, step: int) -> float:
        """Return `decay`, or less during the warm-up."""
        return warmed_up_decay(step, self.decay)


class PowerEma(Average):
    """An average with a power-function profile: its length is the same fraction of training at any step.

    Karras et al. (2024), "Analyzing and Improving the Training Dynamics of Diffusion Models", section 3.1
    (https://arxiv.org/abs/2312.02696).
    """

    def __init__(self, network: nn.Module, sigma_rel: float) -> None:
        """`sigma_rel`: the standard deviation of the profile, relative to the length of training."""
        super().__init__(network)
        self.exponent = exponent(sigma_rel)

    def decay_at(self, step: int) -> float:
        """Return beta = (1 - 1/t)^(gamma + 1), eq. 2; 0 at the first step, so that the initial weights do not count."""
        return float((1 - 1 / step) ** (self.exponent + 1))


def build_averages(network: nn.Module, settings: TrainSection) -> dict[WeightsChoice, Average]:
    """Return all averages that the recipe requests, which start at the current weights."""
    averages: dict[WeightsChoice, Average] = {}
    if settings.ema_decay:
        averages[WeightsChoice("ema")] = Ema(network, settings.ema_decay)
    averages |= {WeightsChoice("decay", decay): Ema(network, decay) for decay in settings.ema_decays}
    return averages | {WeightsChoice("sigma_rel", width): PowerEma(network, width) for width in settings.ema_sigma_rels}
