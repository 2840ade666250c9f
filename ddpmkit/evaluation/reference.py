"""Reference statistics of a metric: its state over the real images, and its floor.

The floor is the score of one half of the real images against the other half. Both are measured once and stored on disk,
so that frequent evaluations do not measure the real images again.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ddpmkit.contracts import Metric
from ddpmkit.data.images import ImageSource
from ddpmkit.errors import InputError
from ddpmkit.evaluation import reference_cache
from ddpmkit.evaluation.metric_state import State, measure_batches
from ddpmkit.evaluation.score_values import check_scores
from ddpmkit.randomness import Purpose, permutation

__all__ = ["Reference", "cached_reference", "reference_states"]

# Not the run's own seed: the floor of a dataset must not depend on who trains on it.
_SPLIT_SEED = 0
_BATCH_SIZE = 64
_FEWEST_FOR_HALVES = 4


@dataclass(frozen=True)
class Reference:
    """The merged state of all real images, and the metric's scores between two random halves of them."""

    num_images: int
    state: State
    floor: Mapping[str, float]
    """Empty if there are too few images to split into halves."""

    @property
    def facts(self) -> dict[str, str]:
        """How the floor was measured."""
        if not self.floor:
            return {"floor": f"none: {self.num_images} images are too few for two halves"}
        small, large = self.num_images // 2, (self.num_images + 1) // 2
        return {"floor": f"one random half of the reference against the other, {small:,} and {large:,} images"}


def reference_states(
    metric: Metric,
    images: ImageSource,
    *,
    name: str,
    version: str,
    settings: Mapping[str, Any],
    progress: Callable[[int], None],
) -> Reference:
    """The reference of `metric` over all `images`, from the cache folder if it is stored there.

    `name` and `settings` are the recipe's `use` and the metric's config as plain data; `version` is the version of the
    metric's code; `progress` is called with the number of images just done. Raises InputError if there are no images.
    """
    found = cached_reference(metric, images, name=name, version=version, settings=settings)
    if found is not None:
        progress(found.num_images)
        return found
    reference = _measure(metric, name, images, progress)
    reference_cache.store(
        _key(metric, images, name, version, settings), reference.num_images, reference.state, reference.floor
    )
    return reference


def cached_reference(
    metric: Metric, images: ImageSource, *, name: str, version: str, settings: Mapping[str, Any]
) -> Reference | None:
    """The reference if it is stored in the cache folder; otherwise None."""
    found = reference_cache.load(_key(metric, images, name, version, settings))
    return None if found is None else Reference(*found)


def _measure(metric: Metric, name: str, images: ImageSource, progress: Callable[[int], None]) -> Reference:
    count = len(images)
    if count == 0:
        raise InputError("there are no real images to compare with.", remedies=["put images in train/ of data.root"])
    order = permutation(_SPLIT_SEED, Purpose.SPLIT, 0, count).numpy()
    if count < _FEWEST_FOR_HALVES:
        _, state = measure_batches(name, metric, metric.measure_real, _batches(images, order), progress)
        return Reference(count, state, {})
    middle = count // 2
    _, first = measure_batches(name, metric, metric.measure_real, _batches(images, order[:middle]), progress)
    _, second = measure_batches(name, metric, metric.measure_real, _batches(images, order[middle:]), progress)
    # A floor that is not finite is dropped.
    return Reference(count, metric.merge(first, second), check_scores(name, metric.scores(first, second)).values)


def _batches(images: ImageSource, indices: NDArray[np.int64]) -> Iterator[Tensor]:
    # In storage order, which is the fastest for a memory map.
    in_order = np.sort(indices)
    for start in range(0, len(in_order), _BATCH_SIZE):
        yield images.center_crops(in_order[start : start + _BATCH_SIZE])


def _key(metric: Metric, images: ImageSource, name: str, version: str, settings: Mapping[str, Any]) -> str:
    """A hash of everything that the state depends on."""
    protocol = metric.protocol
    identity = {
        "metric": name,
        "version": version,
        "implementation": f"{type(metric).__module__}:{type(metric).__qualname__}",
        "settings": dict(settings),
        "protocol": protocol.name,
        "facts": dict(protocol.facts),
        "images": images.dataset.fingerprint,
        "image_shape": list(images.image_shape),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
