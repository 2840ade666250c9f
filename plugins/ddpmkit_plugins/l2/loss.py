"""The mean squared error between prediction and target: Ho et al. (2020), eq. 14, L_simple."""

from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit.plugin import ComponentConfig


class L2Loss:
    """Mean squared error of each image, with the same weight at every timestep."""

    def __init__(self, config: ComponentConfig, *, prediction: Prediction) -> None:
        """Neither argument makes a difference."""

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        """prediction and target [B, C, H, W], alpha_bar [B] -> loss of each image [B]."""
        return (prediction - target).square().flatten(1).mean(dim=1)
