"""Computes the state of a metric over any number of batches."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ddpmkit.contracts import Metric
from ddpmkit.errors import RunFailed

__all__ = ["State", "checked_state", "measure_batches"]

State = Mapping[str, Tensor]
"""The state of a metric over some images: float64 tensors by name, on the CPU."""


def measure_batches(
    name: str,
    metric: Metric,
    measure: Callable[[Tensor], dict[str, Tensor]],
    batches: Iterable[Tensor],
    progress: Callable[[int], None],
) -> tuple[int, dict[str, Tensor]]:
    """The number of images, and the merged state of their uint8 batches [B, C, H, W].

    The states of the batches stay on the device of the metric, and the merged state is moved to the CPU, so that a GPU
    is not waited for after each batch.

    `name` is the metric's name; `progress` is called with the number of images just done. Raises ValueError for other
    batches or no batch, RunFailed if the metric does not return a mapping of tensors.
    """
    done = 0
    merged: dict[str, Tensor] | None = None
    for batch in batches:
        if batch.dtype != torch.uint8 or batch.ndim != 4:
            raise ValueError(f"a metric needs uint8 [B, C, H, W], not {batch.dtype} {list(batch.shape)}")
        state = checked_state(name, "measuring", measure(batch))
        merged = state if merged is None else checked_state(name, "its merge()", metric.merge(merged, state))
        done += len(batch)
        progress(len(batch))
    if merged is None:
        raise ValueError("there are no images to measure")
    return done, {key: tensor.cpu() for key, tensor in merged.items()}


def checked_state(name: str, what: str, returned: Any) -> dict[str, Tensor]:
    """Return a state without gradients. Raises RunFailed if it is not a mapping of tensors with values.

    `name` is the metric's name, and `what` names the call that returned it.
    """
    if not isinstance(returned, Mapping) or not all(isinstance(tensor, Tensor) for tensor in returned.values()):
        raise RunFailed(
            f"metric {name!r}: {what} returned {_type_of(returned)}, not a mapping of names to tensors.",
            remedies=["run `ddpmkit plugins check` to test the metric", "use another metric"],
        )
    if any(tensor.is_meta for tensor in returned.values()):
        raise RunFailed(
            f"metric {name!r}: {what} returned tensors without values (on the device meta).",
            remedies=["run `ddpmkit plugins check` to test the metric", "use another metric"],
        )
    return {str(key): tensor.detach() for key, tensor in returned.items()}


def _type_of(returned: Any) -> str:
    if not isinstance(returned, Mapping):
        return type(returned).__name__
    return f"a mapping of names to {', '.join(sorted({type(value).__name__ for value in returned.values()}))}"
