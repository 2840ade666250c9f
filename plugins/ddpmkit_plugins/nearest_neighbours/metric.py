"""The distance from samples to their nearest training images in pixels, to detect memorization.

A sample is a copy if it is nearer to a training image than neighbouring training images are to each other, similar to
Alaa et al. (2022), section 3.3 (authenticity), and Carlini et al. (2023), section 5.1.
"""

import math
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpmkit.contracts import Better, MetricProtocol
from ddpmkit.plugin import InputError
from ddpmkit_plugins.nearest_neighbours import NearestNeighboursConfig

_ROWS = 1024


class NearestNeighbours:
    """State, float64: `pixels` [N, C, H, W], 25 kB per image of 32 x 32 in colour."""

    # Noise is far from every training image, and so is a good new image: neither score ranks runs.
    better: Mapping[str, Better] = {"distance": "neither", "copies": "neither"}

    def __init__(self, config: NearestNeighboursConfig, *, device: torch.device) -> None:
        """Loads nothing; only the images are needed."""
        # MPS has no float64.
        self.config, self.device = config, torch.device("cpu") if device.type == "mps" else device
        mirrored = " and mirrored" if config.mirrored else ""
        self.protocol = MetricProtocol(
            name="pixels",
            num_samples=2000,
            weights="ema",
            comparable=True,
            facts={
                "reference": f"the training images, resized and cropped as the run does, as they are{mirrored}",
                "distance": "median over samples, root mean square over pixels, in grey levels of 0 .. 255",
                "copies": f"share of samples nearer to a training image than {config.copy_ratio:g} of the distance "
                f"from there to the next one that is more than {config.duplicate_distance:g} grey levels away",
                "compared at": f"{config.size} x {config.size}, or less",
            },
        )

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] -> the pixels."""
        return self.measure_generated(images)

    def measure_generated(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] -> the pixels."""
        size = (min(images.shape[2], self.config.size), min(images.shape[3], self.config.size))
        return {"pixels": F.adaptive_avg_pool2d(images.to(self.device).double(), size)}

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pixels of both."""
        return {"pixels": torch.cat([first["pixels"], second["pixels"]])}

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        """`distance` and `copies`. Raises InputError if there are fewer than 2 different training images."""
        x, y = real["pixels"].to(self.device), generated["pixels"].to(self.device)
        spacing = torch.cat([self._nearest_different(rows) for rows in self._distances(x, x)])
        if not bool(spacing.isfinite().all()):
            raise InputError(
                "metric nearest-neighbours needs at least 2 different training images; "
                f"it received {len(x)}, all within {self.config.duplicate_distance:g} grey levels of one of them.",
                remedies=["add training images", "lower metric.duplicate_distance"],
            )
        found = [rows.min(dim=1) for rows in self._distances(y, x)]
        distance, nearest = torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])
        copies = distance < self.config.copy_ratio * spacing[nearest]
        return {"distance": float(distance.quantile(0.5)), "copies": float(copies.double().mean())}

    def _nearest_different(self, distances: Tensor) -> Tensor:
        """[R, N] -> [R]: the distance to the nearest image that is not a duplicate; infinite if there is none."""
        return distances.masked_fill(distances <= self.config.duplicate_distance, math.inf).min(dim=1).values

    def _distances(self, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        """Root mean squares over pixels, from x to the nearer of each y and its mirror image.

        In blocks of rows of x, so that no N x M matrix is stored.
        """
        sides = [y, y.flip(3)] if self.config.mirrored else [y]
        scale = math.prod(x.shape[1:]) ** 0.5
        for rows in torch.split(x.flatten(1), _ROWS):
            each = [torch.cdist(rows, side.flatten(1)) / scale for side in sides]
            yield each[0] if len(each) == 1 else torch.minimum(*each)
