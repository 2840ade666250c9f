"""The contract of a schedule: it defines alpha_bar at every timestep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Schedule"]


class Schedule(Protocol):
    """A noise schedule: the noise level at each timestep.

    Built with `timesteps: int`, the number of timesteps T, 1 or more.
    """

    def alphas_cumprod(self) -> Tensor:
        """Return alpha_bar at t = 0 .. T-1: float64 [T], strictly decreasing, with 0 < alpha_bar < 1.

        alpha_bar_t is the fraction of the clean image's variance in x_t (Ho et al. 2020, eq. 4). An image at t = 0 is
        already noised, so the first value is below 1. The last value may be 0, which requires prediction x0 or v. If
        the return value is invalid, the run does not start, and the error gives the schedule and the first invalid t.
        """
        ...
