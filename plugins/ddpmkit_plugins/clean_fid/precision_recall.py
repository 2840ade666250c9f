"""Improved precision and recall: Kynkäänniemi et al. (2019), section 2 (https://arxiv.org/abs/1904.06991).

Uses Inception features, as Dhariwal & Nichol (2021); the paper itself used VGG-16.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ddpmkit.contracts import Better, MetricProtocol
from ddpmkit.plugin import InputError
from ddpmkit_plugins.clean_fid import PrecisionRecallConfig
from ddpmkit_plugins.clean_fid.features import REFERENCE, PairMetric

_ROWS = 1024


class PrecisionRecall(PairMetric):
    """The share of generated images in the manifold of the real ones, and the reverse."""

    better: Mapping[str, Better] = {"precision": "higher", "recall": "higher"}

    def __init__(self, config: PrecisionRecallConfig, *, device: torch.device) -> None:
        """Load the network. Raises ComponentUnavailable if its file is not available."""
        self.neighbours = config.neighbours
        super().__init__(config, device)
        self.protocol = MetricProtocol(
            name=f"{config.neighbours}-neighbours",
            num_samples=10_000,
            weights="ema",
            comparable=True,
            facts={
                "reference": REFERENCE,
                "manifold": f"balls that reach to each image's neighbour number {config.neighbours}",
                **self.features.facts,
            },
        )

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        """`precision` and `recall`. Raises InputError if there are too few images for a neighbour of this rank."""
        x, y = real["features"], generated["features"]
        if (fewest := min(len(x), len(y))) <= self.neighbours:
            raise InputError(
                f"metric precision-recall needs more than {self.neighbours} images, real and generated; "
                f"it received {fewest}.",
                remedies=["set metric.num_samples = 5000", "set metric.neighbours = 1"],
            )
        return {"precision": covered(y, x, self.neighbours), "recall": covered(x, y, self.neighbours)}


def covered(points: Tensor, manifold: Tensor, neighbours: int) -> float:
    """The share of points [N, D] inside a ball around any of the manifold [M, D], by eq. 1 and 2.

    The radius of a ball is the distance to the neighbour of rank `neighbours`.
    """
    # The nearest neighbour is the image itself.
    radii = torch.cat([rows.kthvalue(neighbours + 1, dim=1).values for rows in _distances(manifold, manifold)])
    return sum(int((rows <= radii).any(dim=1).sum()) for rows in _distances(points, manifold)) / len(points)


def _distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Euclidean distances, in blocks of rows of x, so that no N x M matrix is stored."""
    return (torch.cdist(rows, y) for rows in torch.split(x, _ROWS))
