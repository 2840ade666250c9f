"""Quadratic for small errors, linear for large ones: Huber (1964), "Robust Estimation of a Location Parameter"."""

import torch.nn.functional as F
from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit_plugins.huber import HuberConfig


class HuberLoss:
    """Mean over each image of e^2 / 2 if |e| <= delta, otherwise delta (|e| - delta / 2), at every timestep alike."""

    def __init__(self, config: HuberConfig, *, prediction: Prediction) -> None:
        """`prediction` makes no difference."""
        self.delta = config.delta

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        """prediction and target [B, C, H, W], alpha_bar [B] -> loss of each image [B]."""
        return F.huber_loss(prediction, target, reduction="none", delta=self.delta).flatten(1).mean(dim=1)
