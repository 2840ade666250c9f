"""What training steps leave on the device until the host reads it: losses, gradient norms, and which were not finite.

A step that is not finite must not change the weights, and the host learns of it only later. So the device itself
decides whether a step is applied.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Judgement", "NonfiniteGate", "StepResult", "StepResults"]


class Judgement(NamedTuple):
    """What becomes of a step: it is applied, or counted without being applied (skipped), or neither (refused)."""

    is_applied: Tensor
    """bool []."""
    is_counted: Tensor
    """bool []."""


class NonfiniteGate:
    """Decides on the device whether a step is applied, skipped or refused.

    After a refused step it refuses all steps, until it is opened again.
    """

    def __init__(self, skip_limit: int, device: torch.device) -> None:
        """`skip_limit`: how many steps in a row may be skipped; 0: none."""
        self._skip_limit = skip_limit
        self._skipped = torch.zeros((), dtype=torch.int64, device=device)
        self._is_open = torch.ones((), dtype=torch.bool, device=device)

    def judge(self, loss: Tensor, gradient_norm: Tensor) -> Judgement:
        """Judge a step by its loss [] and its gradient norm []."""
        is_finite = loss.isfinite() & gradient_norm.isfinite()
        self._is_open.logical_and_(is_finite | (self._skipped < self._skip_limit))
        is_counted = self._is_open.clone()
        # A refused step changes no count.
        skipped = (self._skipped + 1).masked_fill(is_finite, 0)
        self._skipped.copy_(torch.where(is_counted, skipped, self._skipped))
        return Judgement(is_finite & is_counted, is_counted)

    def open(self, skipped: int) -> None:
        """Accept steps again. `skipped`: how many steps in a row were skipped."""
        self._is_open.fill_(True)
        self._skipped.fill_(skipped)


class StepResult(NamedTuple):
    """A step as the host reads it: judgement, loss of the batch, gradient norm before clipping, loss of each image."""

    is_applied: bool
    is_counted: bool
    loss: float
    gradient_norm: float
    losses: Sequence[float]


class StepResults:
    """The results of up to `capacity` steps on the device."""

    def __init__(self, capacity: int, batch_size: int, device: torch.device) -> None:
        """`batch_size`: the number of losses of a step."""
        self.capacity = capacity
        self._rows = torch.zeros(capacity, 4 + batch_size, device=device)
        self._next = torch.zeros(1, dtype=torch.int64, device=device)

    def add(self, judgement: Judgement, loss: Tensor, gradient_norm: Tensor, losses: Tensor) -> None:
        """Store a step: loss and norm [], and the losses [batch_size]."""
        values = torch.stack([*(each.float() for each in judgement), loss.float(), gradient_norm.float()])
        self._rows.index_copy_(0, self._next, torch.cat([values, losses.float()])[None])
        self._next.add_(1)

    def read(self, count: int) -> list[StepResult]:
        """Wait for the device, return the first `count` results, and forget all results."""
        rows = self._rows[:count].tolist()
        self._next.zero_()
        return [StepResult(bool(row[0]), bool(row[1]), row[2], row[3], row[4:]) for row in rows]
