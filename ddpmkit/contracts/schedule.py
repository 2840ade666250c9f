"""The contract of a schedule. It does not know what else follows from alpha_bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Schedule"]


class Schedule(Protocol):
    """How fast the signal fades. Built with `timesteps: int` (T)."""

    def alphas_cumprod(self) -> Tensor:
        """alpha_bar at t = 0 .. T-1: float64 [T], strictly decreasing, between 0 and 1, neither included.

        alpha_bar is the share of the clean image's variance left in x_t: Ho et al. (2020), eq. 4. It starts below 1:
        t = 0 is noised a little already. Its last value may be 0, which needs prediction x0 or v. Anything else is
        refused before a run begins, with the schedule named and the t at which it is wrong.
        """
        ...
