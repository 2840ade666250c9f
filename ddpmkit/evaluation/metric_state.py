"""One metric state from any number of batches.

It does not know whether the images are real or generated.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ddpmkit.contracts import Metric
from ddpmkit.errors import RunFailed

__all__ = ["State", "measured"]

State = Mapping[str, Tensor]
"""What a metric knows about some images: float64 tensors by name, kept on the CPU."""


def measured(
    name: str,
    metric: Metric,
    measure: Callable[[Tensor], dict[str, Tensor]],
    batches: Iterable[Tensor],
    progress: Callable[[int], None],
) -> tuple[int, dict[str, Tensor]]:
    """How many images there were, and the merged state of their uint8 batches [B, C, H, W].

    `name` is the metric's; `progress` is told how many more images are done. Raises ValueError for other batches, or
    none, RunFailed when the metric gives no tensors by name.
    """
    done = 0
    merged: dict[str, Tensor] | None = None
    for batch in batches:
        if batch.dtype != torch.uint8 or batch.ndim != 4:
            raise ValueError(f"a metric is given uint8 [B, C, H, W], not {batch.dtype} {list(batch.shape)}")
        state = _kept(name, "measuring", measure(batch))
        merged = state if merged is None else _kept(name, "its merge()", metric.merge(merged, state))
        done += len(batch)
        progress(len(batch))
    if merged is None:
        raise ValueError("there are no images to measure")
    return done, merged


def _kept(name: str, what: str, answer: Any) -> dict[str, Tensor]:
    """A state without the way its gradient would take. Raises RunFailed if it is not one."""
    if not isinstance(answer, Mapping) or not all(isinstance(tensor, Tensor) for tensor in answer.values()):
        raise RunFailed(
            f"metric {name!r}: {what} gave {_described(answer)}, not tensors by name.",
            remedies=["`ddpmkit plugins check` tests the metric", "use another metric"],
        )
    if any(tensor.is_meta for tensor in answer.values()):
        raise RunFailed(
            f"metric {name!r}: {what} gave tensors without values (on the device meta).",
            remedies=["`ddpmkit plugins check` tests the metric", "use another metric"],
        )
    return {str(key): tensor.detach().cpu() for key, tensor in answer.items()}


def _described(answer: Any) -> str:
    if not isinstance(answer, Mapping):
        return type(answer).__name__
    return f"a mapping to {', '.join(sorted({type(value).__name__ for value in answer.values()}))}"
