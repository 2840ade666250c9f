"""One metric state from any number of batches.

It does not know whether the images are real or generated.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from ddpmkit.contracts import Metric

__all__ = ["State", "measured"]

State = Mapping[str, Tensor]
"""What a metric knows about some images: float64 tensors by name, kept on the CPU."""


def measured(
    metric: Metric,
    measure: Callable[[Tensor], dict[str, Tensor]],
    batches: Iterable[Tensor],
    progress: Callable[[int], None],
) -> tuple[int, dict[str, Tensor]]:
    """How many images there were, and the merged state of their uint8 batches [B, C, H, W].

    `progress` is told how many more images are done. Raises ValueError for other batches, or none.
    """
    done = 0
    merged: dict[str, Tensor] | None = None
    for batch in batches:
        if batch.dtype != torch.uint8 or batch.ndim != 4:
            raise ValueError(f"a metric is given uint8 [B, C, H, W], not {batch.dtype} {list(batch.shape)}")
        state = {name: tensor.cpu() for name, tensor in measure(batch).items()}
        merged = state if merged is None else metric.merge(merged, state)
        done += len(batch)
        progress(len(batch))
    if merged is None:
        raise ValueError("there are no images to measure")
    return done, merged
