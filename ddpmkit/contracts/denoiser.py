"""The contract of the denoiser, and of the diffusion process, that a sampler receives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Denoised", "Denoiser", "DiffusionProcess", "Posterior"]


class Denoised(NamedTuple):
    """The estimates at (x, t), [B, C, H, W] each."""

    x0: Tensor
    """The clean image; clamped to [-1, 1] only if `clip_x0` is set."""
    eps: Tensor
    """The noise in x."""
    spread: Tensor | None = None
    """The learned variance of the reverse step: -1 selects the posterior variance, 1 selects beta, the variance of the
    noising step. Values between interpolate the log variance linearly. None if the network does not learn it."""


class Posterior(NamedTuple):
    """q(x_s | x_t, x0) for s < t."""

    mean: Tensor
    """[B, C, H, W]."""
    variance: float
    """The same for every pixel."""


class Denoiser(Protocol):
    """Estimates x0 and eps from a network that predicts eps, x0 or v. See `ddpmkit.diffusion.Denoiser`."""

    @property
    def process(self) -> DiffusionProcess:
        """The noising process, with its timesteps and coefficients."""
        ...

    def __call__(self, x: Tensor, t: int, *, clip_x0: bool = False, keep_eps: bool = False) -> Denoised:
        """Estimate x0 and eps at x [B, C, H, W] and timestep t in 0 .. T-1.

        `clip_x0`: clamp x0 to [-1, 1], and recompute eps so that x0 and eps still compose x. `keep_eps`: do not
        recompute eps.
        """
        ...

    def truncated(self, timesteps: int) -> Denoiser:
        """Return the denoiser of the first `timesteps` timesteps only."""
        ...


class DiffusionProcess(Protocol):
    """The noising process x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps, at single timesteps.

    Images are [B, C, H, W]. Timesteps are integers 0 .. T-1; t = -1 is the clean image.
    """

    @property
    def timesteps(self) -> int:
        """The number of timesteps, T."""
        ...

    def sampling_timesteps(self, steps: int, log_snr_spacing: float = 0.0) -> list[int]:
        """Return `steps` timesteps from T-1 down to 0. Raises InputError if `steps` is not in 1 .. T.

        `log_snr_spacing`: 0 spaces them evenly in t, 1 in lambda_t (see `half_log_snr_at`), and a value between in the
        weighted mean of both.
        """
        ...

    def alpha_bar_at(self, t: int) -> float:
        """Return alpha_bar_t; 1 at t = -1."""
        ...

    def half_log_snr_at(self, t: int) -> float:
        """Return lambda_t = ln(sqrt(alpha_bar_t) / sqrt(1 - alpha_bar_t)); inf at t = -1, -inf if alpha_bar_t is 0."""
        ...

    def composed(self, x0: Tensor, eps: Tensor, t: int) -> Tensor:
        """Return x_t from the clean image and the noise."""
        ...

    def add_noise(self, x: Tensor, s: int, t: int, noise: Tensor) -> Tensor:
        """Return x_t from x_s, s < t, and standard normal noise."""
        ...

    def posterior(self, x0: Tensor, x: Tensor, t: int, s: int) -> Posterior:
        """Return q(x_s | x_t, x0), s < t."""
        ...

    def p_sample(
        self, x0_hat: Tensor, x: Tensor, t: int, noise: Tensor, s: int | None = None, spread: Tensor | None = None
    ) -> Tensor:
        """Return x_s (s = t - 1 by default) after one ancestral step from x_t. `spread`: see `Denoised`."""
        ...
