"""The Fréchet distance (Heusel et al. 2017, eq. 6) in the features of a network that the recipe names."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpmkit.contracts import Better, MetricProtocol
from ddpmkit.frechet import added, distance_between, feature_sums, in_float64
from ddpmkit.plugin import InputError
from ddpmkit_plugins.fd import FdConfig
from ddpmkit_plugins.fd.extractor import load_extractor


class Fd:
    """State, float64: `n` [], the number of images; `sum` [D] and `outer` [D, D] of their features."""

    better: Mapping[str, Better] = {"fd": "lower"}

    def __init__(self, config: FdConfig, *, device: torch.device) -> None:
        """Load the extractor. Raises InputError if it is not available."""
        self.config, self.device = config, device
        self.network, digest = load_extractor(config.extractor, device)
        self.mean, self.std = (
            torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]
            for values in (config.mean, config.std)
        )
        self.protocol = MetricProtocol(
            name="frechet",
            num_samples=10_000,
            weights="ema",
            comparable=True,
            facts={
                "reference": "the training images, resized and cropped as the run does",
                "resize": f"bicubic to {config.size} x {config.size} in float, antialiased",
                "pixels": f"minus {_listed(config.mean)}, by {_listed(config.std)}",
                "extractor": Path(config.extractor).name,
                "extractor SHA-256": digest,
            },
        )

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] -> the batch's sums."""
        return self.measure_generated(images)

    def measure_generated(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] -> the batch's sums."""
        parts = torch.split(images, self.config.batch_size)
        return feature_sums(torch.cat([self._features(part) for part in parts]))

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sums of both."""
        return added(first, second)

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        """`fd`. Raises InputError for fewer than 2 real or generated images, which have no covariance."""
        return {"fd": distance_between(real, generated)}

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        """uint8 [B, C, H, W] -> float64 [B, D], on the device of the network (on MPS: on the CPU)."""
        pixels = images.to(self.device).float().expand(-1, 3, -1, -1)
        size = (self.config.size, self.config.size)
        resized = F.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 255)
        features = self.network((resized - self.mean) / self.std)
        if not isinstance(features, Tensor) or features.ndim not in (2, 4) or len(features) != len(images):
            shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise InputError(
                f"extractor {self.config.extractor} returned {shape} for {len(images)} images.",
                remedies=["it must return [B, D], or maps [B, D, h, w]"],
            )
        return in_float64(features.mean(dim=(2, 3)) if features.ndim == 4 else features)


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
