"""L_hybrid = L_simple + lambda L_vlb: Nichol & Dhariwal (2021), eq. 16 (https://arxiv.org/abs/2102.09672)."""

from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit_plugins.iddpm_hybrid import IddpmHybridConfig


class IddpmHybridLoss:
    """The mean is learned from L_simple only, the variance from the variational bound only."""

    def __init__(self, config: IddpmHybridConfig, *, prediction: Prediction) -> None:
        """`prediction` makes no difference."""
        self.config = config

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        """L_simple: prediction and target [B, C, H, W], alpha_bar [B] -> loss of each image [B]."""
        return (prediction - target).square().flatten(1).mean(dim=1)

    def with_bound(self, losses: Tensor, bound: Tensor) -> Tensor:
        """L_hybrid: the losses of `__call__` [B] and the variational bound [B] -> loss of each image [B]."""
        return losses + self.config.bound_weight * bound
