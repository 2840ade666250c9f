"""The mean absolute error between prediction and target."""

from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit.plugin import ComponentConfig


class L1Loss:
    """Mean absolute error of each image, with the same weight at every timestep."""

    def __init__(self, config: ComponentConfig, *, prediction: Prediction) -> None:
        """Neither argument makes a difference."""

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        """prediction and target [B, C, H, W], alpha_bar [B] -> loss of each image [B]."""
        return (prediction - target).abs().flatten(1).mean(dim=1)
