"""The contract of a metric: it computes scores of generated images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Better", "Metric", "MetricProtocol"]

Better = Literal["lower", "higher", "neither"]
"""Whether a lower or a higher score is better; `neither` for a score that does not rank runs."""


@runtime_checkable
class Metric(Protocol):
    """An evaluation of generated images. Built with `device: torch.device`, the device for its computations.

    The constructor raises ComponentUnavailable if the metric cannot work on this machine; `remedies` state what to do.

    A state is a dict of float64 tensors that describes a set of images. States of batches are merged, so the number of
    images is not limited by memory. A state may be on the metric's device: `merge` receives what `measure_real`,
    `measure_generated` and `merge` return, and `scores` receives states on the CPU.
    """

    @property
    def better(self) -> Mapping[str, Better]:
        """For each score, whether lower or higher is better."""
        ...

    @property
    def protocol(self) -> MetricProtocol:
        """How the score is measured."""
        ...

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        """Return the state of a batch of reference images, uint8 [B, C, H, W] on the CPU, C = 1 or 3."""
        ...

    def measure_generated(self, images: Tensor) -> dict[str, Tensor]:
        """Return the state of a batch of generated images, uint8 [B, C, H, W] on the CPU, C = 1 or 3."""
        ...

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the state of both sets of images together.

        The arguments must not be modified, and their order must not matter.
        """
        ...

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        """Return the scores by name, from merged states. Raises InputError if there are too few images."""
        ...


@dataclass(frozen=True)
class MetricProtocol:
    """How a score is measured. Scores with different protocols are not ranked against each other."""

    name: str
    """A short name for the protocol."""
    num_samples: int
    """The number of generated images, unless the recipe sets `num_samples`."""
    weights: Literal["ema", "raw"]
    """The weights that generate the samples. If `sampler.weights` selects another average, it replaces "ema"."""
    comparable: bool
    """False if a score of this protocol cannot be compared with any other score."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What else affects the score: reference, resize, extractor and its SHA-256. Shown next to each score."""
