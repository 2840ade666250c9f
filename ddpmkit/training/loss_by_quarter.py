"""The mean loss in each quarter of the timesteps since the last log record.

It shows at which noise levels a model fails.
"""

import torch
from torch import Tensor

__all__ = ["QUARTERS", "LossByQuarter"]

QUARTERS = 4


class LossByQuarter:
    """Sums of per-image losses in four equal ranges of t.

    They are stored in checkpoints, so that a resumed run logs the same values.
    """

    def __init__(self, timesteps: int, device: torch.device) -> None:
        """`timesteps`: T."""
        self.timesteps = timesteps
        self.sums = torch.zeros(QUARTERS, device=device)
        self.counts = torch.zeros(QUARTERS, device=device)

    def add(self, t: Tensor, loss: Tensor, is_finite: Tensor) -> None:
        """Add per-image losses [B] at timesteps int64 [B], unless `is_finite`, bool [], is False."""
        quarter = t * QUARTERS // self.timesteps
        # A matrix product, because index_add_ is not deterministic on CUDA.
        is_in_quarter = ((quarter == torch.arange(QUARTERS, device=t.device)[:, None]) & is_finite).float()
        # NaN times 0 is NaN, so the losses are masked too.
        self.sums += is_in_quarter @ loss.detach().float().where(is_finite, 0.0)
        self.counts += is_in_quarter.sum(dim=1)

    def take(self) -> tuple[float | None, ...]:
        """Return the mean of each quarter, None for one without images, and reset the sums."""
        means = zip(self.sums.tolist(), self.counts.tolist(), strict=True)
        out = tuple(total / count if count else None for total, count in means)
        self.sums.zero_()
        self.counts.zero_()
        return out
