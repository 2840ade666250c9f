"""L_hybrid = L_simple + lambda L_vlb: Nichol & Dhariwal (2021), eq. 16 (https://arxiv.org/abs/2102.09672)."""

from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit_plugins.iddpm_hybrid import IddpmHybridConfig


class IddpmHybridLoss:
    """The mean learns from L_simple alone, the variance from the bound alone."""

    def __init__(self, config: IddpmHybridConfig, *, prediction: Prediction) -> None:
        """It treats every parameterisation alike."""
        self.config = config

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        """L_simple: [B, C, H, W] twice, [B] -> [B]."""
        return (prediction - target).square().flatten(1).mean(dim=1)

    def with_bound(self, losses: Tensor, bound: Tensor) -> Tensor:
        """L_hybrid of each sample: [B] twice -> [B]."""
        return losses + self.config.bound_weight * bound
