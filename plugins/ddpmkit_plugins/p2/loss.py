"""Perception prioritized weighting: Choi et al. (2022), eq. 8 (https://arxiv.org/abs/2204.00227)."""

from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit_plugins.p2 import P2Config


class P2Loss:
    """The squared error of eps, weighted with (k + SNR)^(-gamma); the same for all predictions.

    An error of eps is SNR^(1/2) times the error of x0, and (SNR / (SNR + 1))^(1/2) times the error of v.
    """

    def __init__(self, config: P2Config, *, prediction: Prediction) -> None:
        """`prediction`: the quantity whose error the loss receives."""
        self.config = config
        self.prediction = prediction

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        """prediction and target [B, C, H, W], alpha_bar [B] -> loss of each image [B]."""
        error = (prediction - target).square().flatten(1).mean(dim=1)
        return self.weight(alpha_bar).to(error.dtype) * error

    def weight(self, alpha_bar: Tensor) -> Tensor:
        """The weight of the squared error at alpha_bar: [B] -> [B]."""
        snr = alpha_bar / (1 - alpha_bar)
        weight = (self.config.k + snr) ** -self.config.gamma
        if self.prediction == "epsilon":
            return weight
        return weight * (snr if self.prediction == "x0" else alpha_bar)  # SNR / (SNR + 1) is alpha_bar
