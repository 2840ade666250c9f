"""The Fréchet distance between two Gaussians: Dowson & Landau (1982), as used by Heusel et al. (2017), eq. 6.

Sums stand in for features, so that the states of batches and of ranks add up. It does not know whose features they are.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ddpmkit.errors import InputError

__all__ = ["Moments", "added", "distance_between", "feature_sums", "frechet_distance", "moments"]


def feature_sums(features: Tensor) -> dict[str, Tensor]:
    """Of features float64 [B, D]: their number `n` [], their `sum` [D], the sum of their `outer` products [D, D]."""
    return {
        "n": torch.tensor(len(features), dtype=torch.float64),
        "sum": features.sum(dim=0),
        "outer": features.T @ features,
    }


def added(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sums of both."""
    return {name: first[name] + second[name] for name in first}


def distance_between(real: Mapping[str, Tensor], generated: Mapping[str, Tensor]) -> float:
    """The Fréchet distance of two `feature_sums`. Raises InputError when a side has fewer than 2 images."""
    for side, sums in (("real", real), ("generated", generated)):
        if (count := int(sums["n"])) < 2:
            raise InputError(
                f"a Fréchet distance needs at least 2 {side} images for a covariance; it got {count}.",
                remedies=["metric.num_samples = 5000" if side == "generated" else "more images in the training set"],
            )
    first, second = (moments(int(sums["n"]), sums["sum"], sums["outer"]) for sums in (real, generated))
    return frechet_distance(first, second)


class Moments(NamedTuple):
    """Mean and covariance of vectors."""

    n: int
    """How many there are."""
    mean: Tensor
    """float64 [D]."""
    covariance: Tensor
    """float64 [D, D], unbiased."""


def moments(n: int, total: Tensor, outer: Tensor) -> Moments:
    """From the sum [D] and the sum of outer products [D, D] of `n` > 1 vectors, float64."""
    mean = total / n
    return Moments(n, mean, (outer - n * torch.outer(mean, mean)) / (n - 1))


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|^2 + tr S1 + tr S2 - 2 tr sqrt(S1 S2).

    With S1 = F F^T, S1 S2 has the eigenvalues of F^T S2 F, which is symmetric: its root needs no general sqrtm, and
    singular covariances (fewer images than features) need no offset.
    """
    shift = first.mean - second.mean
    # Where a rank is deficient, the square root would turn rounding of 1e-16 into 1e-8 for every empty direction. The
    # side of fewer images has fewer directions, and `_factor` leaves out its empty ones.
    narrow, wide = sorted((first, second), key=lambda moments: moments.n)
    with _one_thread():
        columns = _factor(narrow.covariance)
        squares = torch.linalg.eigvalsh(columns.T @ wide.covariance @ columns)
    cross = squares.clamp(min=0).sqrt().sum()
    distance = shift @ shift + first.covariance.trace() + second.covariance.trace() - 2 * cross
    return max(0.0, float(distance))


def _factor(covariance: Tensor) -> Tensor:
    """F [D, r] with F F^T = covariance [D, D], r its numerical rank."""
    variances, directions = torch.linalg.eigh(covariance)
    # The cut of numpy.linalg.matrix_rank.
    kept = variances > variances[-1] * len(variances) * torch.finfo(variances.dtype).eps
    columns: Tensor = directions[:, kept] * variances[kept].sqrt()
    return columns


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Threads of an eigendecomposition wait for each other at every column, and a busy core stops them all.

    Measured at D = 2048 on two cores: 0.6 s with two threads when idle, 28 s beside another program; 1.1 s with one
    thread, always.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
