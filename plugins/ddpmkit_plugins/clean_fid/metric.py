"""FID as computed by clean-fid: Heusel et al. (2017), eq. 6; Parmar et al. (2022)."""

import io
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddpmkit.contracts import Better, MetricProtocol
from ddpmkit.frechet import added, distance_between, feature_sums
from ddpmkit_plugins.clean_fid import CleanFidConfig
from ddpmkit_plugins.clean_fid.features import REFERENCE, InceptionFeatures, pixels


class CleanFid:
    """State, float64: `n` [], the number of images; `sum` [2048] and `outer` [2048, 2048] of their features."""

    better: Mapping[str, Better] = {"fid": "lower"}

    def __init__(self, config: CleanFidConfig, *, device: torch.device) -> None:
        """Load the network. Raises ComponentUnavailable if its file is not available."""
        self.features = InceptionFeatures(config, device)
        self.standard = config.protocol == "standard"
        self.protocol = MetricProtocol(
            name=config.protocol,
            num_samples=10_000 if self.standard else 512,
            weights="ema" if self.standard else "raw",
            comparable=self.standard,
            facts={
                "reference": REFERENCE if self.standard else f"{REFERENCE}, then re-encoded as JPEG",
                **self.features.facts,
            },
        )

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] -> the batch's sums; the original protocol re-encodes the images as JPEG."""
        return feature_sums(self.features(images if self.standard else _as_jpeg(images)))

    def measure_generated(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] -> the batch's sums."""
        return feature_sums(self.features(images))

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sums of both."""
        return added(first, second)

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        """`fid`. Raises InputError for fewer than 2 real or generated images, which have no covariance."""
        return {"fid": distance_between(real, generated)}


def _as_jpeg(images: Tensor) -> Tensor:
    """Encode and decode each image as JPEG at Pillow's default quality, in memory."""
    out = torch.empty_like(images, device="cpu")
    for row, image in enumerate(pixels(images)):
        file = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, "JPEG")
        decoded = torch.from_numpy(np.array(Image.open(file)))
        out[row] = decoded[None] if decoded.ndim == 2 else decoded.permute(2, 0, 1)
    return out
