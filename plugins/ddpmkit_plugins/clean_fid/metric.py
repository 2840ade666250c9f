"""FID by the rules of clean-fid: Parmar et al. (2022), "On Aliased Resizing" (https://arxiv.org/abs/2104.11222).

The resize and the network are the clean-fid package's own; images stay in memory, and sums stand in for features, so
that batches and ranks add up.
"""

import importlib.metadata
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from cleanfid.resize import build_resizer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ddpmkit.contracts import Better, MetricProtocol
from ddpmkit.plugin import InputError
from ddpmkit_plugins.clean_fid import CleanFidConfig
from ddpmkit_plugins.clean_fid.frechet import Moments, frechet_distance, moments
from ddpmkit_plugins.clean_fid.inception import find_inception, load_inception
from ddpmkit_plugins.clean_fid.location import sha256_of


class CleanFid:
    """State, float64: `n` [], the number of images; `sum` [2048] and `outer` [2048, 2048] of their features."""

    better: Mapping[str, Better] = {"fid": "lower"}

    def __init__(self, config: CleanFidConfig, *, device: torch.device) -> None:
        """Load the network. Raises ComponentUnavailable when its file is not to be had."""
        self.config = config
        self.device = device
        path = find_inception(config.inception)
        self.network = load_inception(path, device)
        self.resize = build_resizer("clean")
        self.protocol = _protocol(config, path)

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] -> the batch's sums; the original protocol looks at the images as JPEGs."""
        return self._measure(_as_jpeg(images) if self.config.protocol == "original" else images)

    def measure_generated(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] -> the batch's sums."""
        return self._measure(images)

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sums of both."""
        return {name: first[name] + second[name] for name in first}

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        """`fid`. Raises InputError when a side has fewer than 2 images, which have no covariance."""
        return {"fid": frechet_distance(_moments(real, "real"), _moments(generated, "generated"))}

    def _measure(self, images: Tensor) -> dict[str, Tensor]:
        features = torch.cat([self._features(batch) for batch in torch.split(images, self.config.batch_size)])
        return {
            "n": torch.tensor(len(features), dtype=torch.float64),
            "sum": features.sum(dim=0),
            "outer": features.T @ features,
        }

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        """uint8 [B, C, H, W] -> float64 [B, 2048] on the CPU."""
        resized = np.stack([self.resize(picture) for picture in _pixels(images.expand(-1, 3, -1, -1))])
        network_input = torch.from_numpy(resized).permute(0, 3, 1, 2).to(self.device)
        features: Tensor = self.network(network_input)
        return features.cpu().double()


def _moments(state: dict[str, Tensor], side: str) -> Moments:
    count = int(state["n"])
    if count < 2:
        raise InputError(
            f"metric clean-fid needs at least 2 {side} images for a covariance; it got {count}.",
            remedies=["metric.num_samples = 5000" if side == "generated" else "more images in the training set"],
        )
    return moments(count, state["sum"], state["outer"])


def _pixels(images: Tensor) -> NDArray[np.uint8]:
    """uint8 [B, C, H, W] -> [B, H, W, C]."""
    pixels: NDArray[np.uint8] = images.permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def _as_jpeg(images: Tensor) -> Tensor:
    """Each image once through a JPEG file at Pillow's default quality, in memory."""
    out = torch.empty_like(images, device="cpu")
    for row, picture in enumerate(_pixels(images)):
        file = io.BytesIO()
        Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(file, "JPEG")
        decoded = torch.from_numpy(np.array(Image.open(file)))
        out[row] = decoded[None] if decoded.ndim == 2 else decoded.permute(2, 0, 1)
    return out


def _protocol(config: CleanFidConfig, path: Path) -> MetricProtocol:
    standard = config.protocol == "standard"
    reference = "the training images, resized and cropped as the run does"
    return MetricProtocol(
        name=config.protocol,
        num_samples=10_000 if standard else 512,
        weights="ema" if standard else "raw",
        comparable=standard,
        facts={
            "reference": reference if standard else f"{reference}, then re-encoded as JPEG",
            "resize": "clean-fid's: bicubic to 299 x 299 in float, each channel by itself, not quantised",
            "extractor": path.name,
            "extractor SHA-256": sha256_of(path),
            "clean-fid": importlib.metadata.version("clean-fid"),
        },
    )
