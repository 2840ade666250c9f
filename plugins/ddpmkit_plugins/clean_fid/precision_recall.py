"""Improved precision and recall: Kynkäänniemi et al. (2019), section 2 (https://arxiv.org/abs/1904.06991).

In Inception's features, as Dhariwal & Nichol (2021) take them; the paper itself used those of VGG-16.
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
    """How much of either side lies within the manifold of the other."""

    better: Mapping[str, Better] = {"precision": "higher", "recall": "higher"}

    def __init__(self, config: PrecisionRecallConfig, *, device: torch.device) -> None:
        """Load the network. Raises ComponentUnavailable when its file is not to be had."""
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
        """`precision` and `recall`. Raises InputError when a side has no neighbour of that rank."""
        x, y = real["features"], generated["features"]
        if (fewest := min(len(x), len(y))) <= self.neighbours:
            raise InputError(
                f"metric precision-recall looks for neighbour number {self.neighbours} among {fewest} images, and an "
                "image is not its own neighbour.",
                remedies=["metric.num_samples = 5000", "metric.neighbours = 1"],
            )
        return {"precision": covered(y, x, self.neighbours), "recall": covered(x, y, self.neighbours)}


def covered(points: Tensor, manifold: Tensor, neighbours: int) -> float:
    """The share of [N, D] in a ball around one of [M, D] that reaches to its neighbour of that rank: eq. 1 and 2."""
    # The nearest is the image itself.
    radii = torch.cat([rows.kthvalue(neighbours + 1, dim=1).values for rows in _distances(manifold, manifold)])
    return sum(int((rows <= radii).any(dim=1).sum()) for rows in _distances(points, manifold)) / len(points)


def _distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Euclidean, block by block of the rows of x, so that no matrix of N x M is ever held."""
    return (torch.cdist(rows, y) for rows in torch.split(x, _ROWS))
