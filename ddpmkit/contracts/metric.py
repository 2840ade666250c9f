"""The contract of a metric. It does not know what drew the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Better", "Metric", "MetricProtocol"]

Better = Literal["lower", "higher", "neither"]
"""Which way a score improves; `neither` is for one that says something of a run and ranks none."""


@runtime_checkable
class Metric(Protocol):
    """A distance or a quality of generated images. Built with `device: torch.device`.

    A target that cannot work here raises `ComponentUnavailable` while it is built, with the ways out as remedies.
    """

    @property
    def better(self) -> Mapping[str, Better]:
        """Which way each score improves."""
        ...

    @property
    def protocol(self) -> MetricProtocol:
        """The rules of this measurement."""
        ...

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] of the reference -> float64 state of this batch."""
        ...

    def measure_generated(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] of samples -> float64 state of this batch."""
        ...

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state of both batches together; order must not matter beyond rounding."""
        ...

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        """Scores by name, from the merged states. Raises `InputError` when there are too few images for that."""
        ...


@dataclass(frozen=True)
class MetricProtocol:
    """The rules a score was taken by. Scores under unlike rules are never ranked against each other."""

    name: str
    """A word that stands for the rules."""
    num_samples: int
    """Generated images, unless the recipe says otherwise."""
    weights: Literal["ema", "raw"]
    """Which weights draw the samples; "ema" is the average that `sampler.weights` names, where it names one."""
    comparable: bool
    """False where the rules themselves make a score comparable with nothing else."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What else a reader must know: reference, resize, extractor and its SHA-256. Printed beside every score."""
