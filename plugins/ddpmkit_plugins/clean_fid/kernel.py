"""The kernel inception distance: Bińkowski et al. (2018), "Demystifying MMD GANs" (https://arxiv.org/abs/1801.01401).

The published code and clean-fid average an unbiased estimate over random subsets of 1,000 images. Here, the estimate is
taken once over all pairs of all images: these averages converge to it, and nothing is random.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ddpmkit.contracts import Better, MetricProtocol
from ddpmkit.plugin import InputError
from ddpmkit_plugins.clean_fid import CleanKidConfig
from ddpmkit_plugins.clean_fid.features import REFERENCE, PairMetric

_ROWS = 1024


class CleanKid(PairMetric):
    """MMD^2 between the features of real and generated images."""

    better: Mapping[str, Better] = {"kid": "lower"}

    def __init__(self, config: CleanKidConfig, *, device: torch.device) -> None:
        """Load the network. Raises ComponentUnavailable if its file is not available."""
        super().__init__(config, device)
        self.protocol = MetricProtocol(
            name="all-pairs",
            num_samples=10_000,
            weights="ema",
            comparable=True,
            facts={
                "reference": REFERENCE,
                "estimate": "unbiased, over all pairs; cubic kernel (x y / 2048 + 1)^3",
                **self.features.facts,
            },
        )

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        """`kid`, whose mean is 0 if there is no difference, so it may be negative.

        Raises InputError if there are fewer than 2 real or generated images.
        """
        x, y = real["features"], generated["features"]
        if min(len(x), len(y)) < 2:
            raise InputError(
                f"metric clean-kid needs at least 2 real and 2 generated images; it received {len(x)} real and "
                f"{len(y)} generated.",
                remedies=["set metric.num_samples = 5000"],
            )
        return {"kid": squared_discrepancy(x, y)}


def squared_discrepancy(x: Tensor, y: Tensor) -> float:
    """The unbiased MMD^2 of [N, D] and [M, D] under the cubic kernel: Gretton et al. (2012), eq. 3."""
    return _mean_within(x) + _mean_within(y) - 2 * _total(x, y) / (len(x) * len(y))


def _mean_within(x: Tensor) -> float:
    """Mean kernel over all pairs of two different rows."""
    diagonal = float(_kernel(x.square().sum(dim=1), x.shape[1]).sum())
    return (_total(x, x) - diagonal) / (len(x) * (len(x) - 1))


def _total(x: Tensor, y: Tensor) -> float:
    """Sum of the kernel over all pairs, in blocks, so that no N x M matrix is stored."""
    return math.fsum(float(_kernel(rows @ y.T, x.shape[1]).sum()) for rows in torch.split(x, _ROWS))


def _kernel(product: Tensor, dimension: int) -> Tensor:
    return (product / dimension + 1) ** 3
