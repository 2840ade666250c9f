"""Squared error under min-SNR weights: Hang et al. (2023), eq. 6 to 8 (https://arxiv.org/abs/2303.09556)."""

from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit_plugins.min_snr import MinSnrConfig


class MinSnrLoss:
    """The squared error of x0, weighted with min(SNR, gamma); the same for all predictions.

    An error of x0 is SNR^(-1/2) times the error of eps, and (SNR + 1)^(-1/2) times the error of v.
    """

    def __init__(self, config: MinSnrConfig, *, prediction: Prediction) -> None:
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
        capped = snr.clamp(max=self.config.gamma)
        if self.prediction == "x0":
            return capped
        return capped / (snr if self.prediction == "epsilon" else snr + 1)
