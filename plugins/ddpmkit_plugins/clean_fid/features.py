"""Inception features of images, computed as in clean-fid: Parmar et al. (2022), "On Aliased Resizing".

Resize and network are those of the clean-fid package (https://arxiv.org/abs/2104.11222); images stay in memory.
"""

import importlib.metadata

import numpy as np
import torch
from cleanfid.resize import build_resizer
from numpy.typing import NDArray
from torch import Tensor

from ddpmkit.frechet import in_float64
from ddpmkit.plugin import sha256_file
from ddpmkit_plugins.clean_fid import InceptionConfig
from ddpmkit_plugins.clean_fid.inception import find_inception, load_inception

REFERENCE = "the training images, resized and cropped as the run does"


class InceptionFeatures:
    """uint8 [B, C, H, W] -> float64 [B, 2048], on the device of the network (on MPS: on the CPU)."""

    def __init__(self, config: InceptionConfig, device: torch.device) -> None:
        """Load the network. Raises ComponentUnavailable if its file is not available."""
        path = find_inception(config.inception)
        self.batch_size, self.device = config.batch_size, device
        self.network = load_inception(path, device)
        self.resize = build_resizer("clean")
        self.facts = {
            "resize": "clean-fid's: bicubic to 299 x 299 in float, each channel by itself, not quantised",
            "extractor": path.name,
            "extractor SHA-256": sha256_file(path),
            "clean-fid": importlib.metadata.version("clean-fid"),
        }
        """The facts that the scores depend on."""

    def __call__(self, images: Tensor) -> Tensor:
        """The features of any number of images; grayscale is repeated to three channels."""
        return torch.cat([self._batch(batch) for batch in torch.split(images, self.batch_size)])

    @torch.no_grad()
    def _batch(self, images: Tensor) -> Tensor:
        resized = np.stack([self.resize(image) for image in pixels(images.expand(-1, 3, -1, -1))])
        network_input = torch.from_numpy(resized).permute(0, 3, 1, 2).to(self.device)
        return in_float64(self.network(network_input))


class PairMetric:
    """The base of metrics on pairs of images. State, float64: `features` [N, 2048], 16 kB per image."""

    def __init__(self, config: InceptionConfig, device: torch.device) -> None:
        """Load the network. Raises ComponentUnavailable if its file is not available."""
        self.features = InceptionFeatures(config, device)

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] -> the features."""
        return {"features": self.features(images)}

    def measure_generated(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] -> the features."""
        return {"features": self.features(images)}

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        """The features of both."""
        return {"features": torch.cat([first["features"], second["features"]])}


def pixels(images: Tensor) -> NDArray[np.uint8]:
    """uint8 [B, C, H, W] -> [B, H, W, C]."""
    found: NDArray[np.uint8] = images.permute(0, 2, 3, 1).cpu().numpy()
    return found
