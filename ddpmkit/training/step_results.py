"""What training steps leave on the device until the host reads it: losses, gradient norms, and which were not finite.

A step that is not finite must not change the weights, and the host learns of it only later. So the device itself
decides whether a step is applied.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["NonfiniteGate", "StepResult", "StepResults", "Verdict"]


class Verdict(IntEnum):
    """What became of a step."""

    APPLIED = 0
    SKIPPED = 1
    """It was not finite. It counts as a step, and the weights did not change."""
    REFUSED = 2
    """It was not finite, and may not be skipped. It did not count, nor do the steps that follow it."""


class NonfiniteGate:
    """Decides on the device whether a step is applied, skipped or refused.

    After a refused step it refuses all steps, until it is opened again.
    """

    def __init__(self, skip_limit: int, device: torch.device) -> None:
        """`skip_limit`: how many steps in a row may be skipped; 0: none."""
        self._skip_limit = skip_limit
        self._skipped = torch.zeros((), dtype=torch.int64, device=device)
        self._is_closed = torch.zeros((), dtype=torch.bool, device=device)

    def judge(self, loss: Tensor, gradient_norm: Tensor) -> Tensor:
        """Return the `Verdict` on a step with this loss [] and gradient norm []: int64 []."""
        is_finite = loss.isfinite() & gradient_norm.isfinite()
        may_skip = self._skipped < self._skip_limit
        self._is_closed.logical_or_(~(is_finite | may_skip))
        verdict = torch.where(is_finite, int(Verdict.APPLIED), int(Verdict.SKIPPED))
        verdict = torch.where(self._is_closed, int(Verdict.REFUSED), verdict)
        # A refused step changes no count.
        skipped = torch.where(is_finite, 0, self._skipped + 1)
        self._skipped.copy_(torch.where(self._is_closed, self._skipped, skipped))
        return verdict

    def open(self, skipped: int) -> None:
        """Accept steps again. `skipped`: how many steps in a row were skipped."""
        self._is_closed.fill_(False)
        self._skipped.fill_(skipped)


class StepResult(NamedTuple):
    """A step as the host reads it: loss of the batch, gradient norm before clipping, loss of each image."""

    verdict: Verdict
    loss: float
    gradient_norm: float
    losses: Sequence[float]


class StepResults:
    """The results of up to `capacity` steps on the device."""

    def __init__(self, capacity: int, batch_size: int, device: torch.device) -> None:
        """`batch_size`: the number of losses of a step."""
        self.capacity = capacity
        self._rows = torch.zeros(capacity, 3 + batch_size, device=device)
        self._next = torch.zeros(1, dtype=torch.int64, device=device)

    def add(self, verdict: Tensor, loss: Tensor, gradient_norm: Tensor, losses: Tensor) -> None:
        """Store a step: three values [] and the losses [batch_size]."""
        row = torch.cat([torch.stack([verdict.float(), loss.float(), gradient_norm.float()]), losses.float()])
        self._rows.index_copy_(0, self._next, row[None])
        self._next.add_(1)

    def read(self, count: int) -> list[StepResult]:
        """Wait for the device, return the first `count` results, and forget all results."""
        rows = self._rows[:count].tolist()
        self._next.zero_()
        return [StepResult(Verdict(int(row[0])), row[1], row[2], row[3:]) for row in rows]
