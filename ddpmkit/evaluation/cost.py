"""Estimates the cost of an evaluation before it starts."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpmkit.contracts import ImageShape, Metric
from ddpmkit.evaluation.metric_state import checked_state
from ddpmkit.plural import counted

__all__ = ["EvaluationCost", "estimate_cost"]

_PROBE_IMAGES = 16


@dataclass(frozen=True)
class EvaluationCost:
    """The work of one evaluation."""

    metric: str
    protocol: str
    images: int
    network_calls: int
    batch_size: int
    reference_images: int = 0
    """Real images that must be measured first; 0 if the reference statistics are cached."""
    seconds: float | None = None
    """None if not estimated."""

    def describe(self) -> str:
        """The cost in one sentence."""
        parts = [
            counted(self.images, "sample"),
            f"{counted(self.network_calls, 'network call')} in batches of {self.batch_size}",
        ]
        if self.reference_images:
            parts.append(f"{counted(self.reference_images, 'real image')} to measure first")
        if self.seconds is not None:
            parts.append(f"about {_in_words(self.seconds)}")
        return f"{self.metric} ({self.protocol}): {', '.join(parts)}"


def estimate_cost(
    metric: Metric,
    *,
    name: str,
    num_samples: int,
    network_calls: int,
    batch_size: int,
    seconds_per_call: float,
    image_shape: ImageShape,
    reference_images: int = 0,
) -> EvaluationCost:
    """The cost of generating `num_samples` images in `network_calls` calls, and of measuring them and the reference."""
    measuring = (num_samples + reference_images) * _seconds_per_image(name, metric, image_shape)
    return EvaluationCost(
        metric=name,
        protocol=metric.protocol.name,
        images=num_samples,
        network_calls=network_calls,
        batch_size=batch_size,
        reference_images=reference_images,
        seconds=network_calls * seconds_per_call + measuring,
    )


def _seconds_per_image(name: str, metric: Metric, image_shape: ImageShape) -> float:
    """Seconds per image for the metric on this machine; the first batch is slower and does not count."""
    grey = torch.full((_PROBE_IMAGES, *image_shape), 128, dtype=torch.uint8)
    _measure(name, metric, grey)
    started = time.perf_counter()
    _measure(name, metric, grey)
    return (time.perf_counter() - started) / _PROBE_IMAGES


def _measure(name: str, metric: Metric, images: Tensor) -> None:
    """Measure the images and wait for the result: a GPU computes it after the call has returned."""
    for tensor in checked_state(name, "measuring", metric.measure_generated(images)).values():
        tensor.cpu()


def _in_words(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if seconds < 90:
        count, unit = max(1, round(seconds)), "second"
    elif seconds < 90 * 60:
        count, unit = round(seconds / 60), "minute"
    else:
        return f"{seconds / 3600:.1f} hours"
    return counted(count, unit)
