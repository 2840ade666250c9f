"""Squared error under min-SNR weights: Hang et al. (2023), eq. 6 to 8 (https://arxiv.org/abs/2303.09556)."""

from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit_plugins.min_snr import MinSnrConfig


class MinSnrLoss:
    """The error of x0 times min(SNR, gamma), whatever is predicted.

    An error of x0 is SNR^(-1/2) times that of eps, and (SNR + 1)^(-1/2) times that of v.
    """

    def __init__(self, config: MinSnrConfig, *, prediction: Prediction) -> None:
        """`prediction` says whose error is seen."""
        self.config = config
        self.prediction = prediction

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        """[B, C, H, W] twice, [B] -> [B]."""
        error = (prediction - target).square().flatten(1).mean(dim=1)
        return self.weight(alpha_bar).to(error.dtype) * error

    def weight(self, alpha_bar: Tensor) -> Tensor:
        """Of each sample's squared error: [B] -> [B]."""
        snr = alpha_bar / (1 - alpha_bar)
        capped = snr.clamp(max=self.config.gamma)
        if self.prediction == "x0":
            return capped
        return capped / (snr if self.prediction == "epsilon" else snr + 1)
