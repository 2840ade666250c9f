"""What the loss did since the last record, by quarter of the timesteps: where the model fails.

It does not know what the loss measures.
"""

import torch
from torch import Tensor

__all__ = ["QUARTERS", "LossByQuarter"]

QUARTERS = 4


class LossByQuarter:
    """Running sums of per-sample losses in four equal ranges of t; in every checkpoint, so records survive a resume."""

    def __init__(self, timesteps: int, device: torch.device) -> None:
        """`timesteps`: T."""
        self.timesteps = timesteps
        self.sums = torch.zeros(QUARTERS, device=device)
        self.counts = torch.zeros(QUARTERS, device=device)

    def add(self, t: Tensor, loss: Tensor) -> None:
        """Count per-sample losses [B] at timesteps int64 [B]."""
        quarter = t * QUARTERS // self.timesteps
        # A matrix product rather than index_add_, which is not repeatable on CUDA.
        member = (quarter == torch.arange(QUARTERS, device=t.device)[:, None]).float()
        self.sums += member @ loss.detach().float()
        self.counts += member.sum(dim=1)

    def take(self) -> tuple[float | None, ...]:
        """The mean of each quarter (None: no sample fell there), and start over."""
        means = zip(self.sums.tolist(), self.counts.tolist(), strict=True)
        out = tuple(total / count if count else None for total, count in means)
        self.sums.zero_()
        self.counts.zero_()
        return out
