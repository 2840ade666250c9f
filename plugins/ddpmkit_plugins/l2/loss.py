"""The mean squared error of the prediction."""

from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit.plugin import ComponentConfig


class L2Loss:
    """Mean squared error over each image, the same at every timestep."""

    def __init__(self, config: ComponentConfig, *, prediction: Prediction) -> None:
        """It has no config, and treats every parameterisation alike."""

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        """[B, C, H, W] twice, [B] -> [B]."""
        return (prediction - target).square().flatten(1).mean(dim=1)
