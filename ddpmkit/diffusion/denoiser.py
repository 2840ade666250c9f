"""`Denoiser`: what a sampler calls to get x0 and eps.

It adds guidance, self-conditioning, inpainting and the clamp of x0 to the network.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ddpmkit.contracts.denoiser import Denoised
from ddpmkit.diffusion.process import GaussianDiffusion

__all__ = ["Denoiser", "Guidance", "KnownPixels", "split_learned_variance"]


class Guidance(NamedTuple):
    """Classifier-free guidance: Ho & Salimans (2022), eq. 6, with `scale` = 1 + w (https://arxiv.org/abs/2207.12598)."""

    scale: float
    """0: unconditional; 1: conditional; above 1: the effect of the label is amplified."""
    null_label: int
    """The label that means "unconditional"."""

    @property
    def untold(self) -> int:
        """The same as `null_label`, for plugins that use this name."""
        return self.null_label

    def combine(self, conditional: Tensor, unconditional: Tensor, channels: int) -> Tensor:
        """Extrapolate from the unconditional to the conditional output, [B, channels or 2 channels, H, W] each.

        eps, x0 and v are affine in each other at one (x, t), so guiding one of them guides all. The second half of the
        channels, if there is one, selects the learned variance. It is not extrapolated: for `scale` above 1 it is that
        of the conditional output, as in GLIDE (Nichol et al. 2022, https://arxiv.org/abs/2112.10741) and DiT
        (Peebles & Xie 2023, https://arxiv.org/abs/2212.09748).
        """
        guided = torch.lerp(unconditional[:, :channels], conditional[:, :channels], self.scale)
        spread = torch.lerp(unconditional[:, channels:], conditional[:, channels:], min(self.scale, 1))
        return torch.cat([guided, spread], dim=1)


class KnownPixels(NamedTuple):
    """The known pixels of the clean image, for inpainting."""

    x0: Tensor
    """Float [C, H, W] in [-1, 1]; the values outside `where` are not used."""
    where: Tensor
    """bool [H, W], True if the pixel is known."""


class Denoiser:
    """Estimates x0 and eps at (x, t) from a network that predicts eps, x0 or v.

    Implements `ddpmkit.contracts.Denoiser`. `network` is called as `(x, t int64 [B], label)`; its output is converted
    to the dtype of x. With self-conditioning, the network receives the x0 of the previous call, or zeros in the first
    call. So use a denoiser for one batch only, and call it in the order of the timesteps, from noise to image.
    """

    def __init__(
        self,
        network: Callable[[Tensor, Tensor, Tensor | None], Tensor],
        process: GaussianDiffusion,
        label: Tensor | None = None,
        guidance: Guidance | None = None,
        known: KnownPixels | None = None,
    ) -> None:
        """`label`: int64 [B], the class of each image of the batch, or None.

        `guidance` has no effect without `label`. `known`: the pixels to keep, for inpainting.
        """
        self.network = network
        self.process = process
        self.label = label
        self.guidance = guidance
        self.known = known
        self._previous_x0: Tensor | None = None

    def __call__(self, x: Tensor, t: int, *, clip_x0: bool = False, keep_eps: bool = False) -> Denoised:
        """Estimate x0 and eps at x [B, C, H, W] and timestep t in 0 .. T-1.

        `clip_x0`: clamp x0 to [-1, 1], and recompute eps so that x0 and eps still compose x. With `keep_eps`, eps stays
        as predicted, and x0 and eps no longer compose x. The x0 that self-conditioning passes to the network is clamped
        in any case, by `GaussianDiffusion.network_input`.
        """
        estimate = self._estimate(x, t)
        if not clip_x0:
            return estimate
        x0 = estimate.x0.clamp(-1, 1)
        if keep_eps:
            return estimate._replace(x0=x0)
        # The part that the clamp removes from x0 is added to eps. As a difference, so that eps keeps its bits wherever
        # nothing is clamped.
        alpha_bar_t = self.process.alpha_bar_at(t)
        removed = estimate.x0 - x0
        return estimate._replace(x0=x0, eps=estimate.eps + math.sqrt(alpha_bar_t / (1 - alpha_bar_t)) * removed)

    def truncated(self, timesteps: int) -> "Denoiser":
        """Return the denoiser of the first `timesteps` timesteps only: the same network, with `process.truncated`."""
        return Denoiser(self.network, self.process.truncated(timesteps), self.label, self.guidance, self.known)

    def _estimate(self, x: Tensor, t: int) -> Denoised:
        times = torch.full((len(x),), t, dtype=torch.int64, device=x.device)
        output = self._network_output(self.process.network_input(x, self._previous_x0), times, x.shape[1])
        prediction, spread = split_learned_variance(output.to(x.dtype), x.shape[1])
        # With t as an int, the coefficients are numbers: nothing is looked up on the device.
        estimate = self.process.denoised(prediction, x, t)._replace(spread=spread)
        if self.known is not None:
            estimate = self._with_known(self.known, estimate, x, t)
        self._previous_x0 = estimate.x0 if self.process.self_conditioning else None
        return estimate

    def _network_output(self, x: Tensor, times: Tensor, channels: int) -> Tensor:
        """Return [B, channels, H, W], or [B, 2 channels, H, W] with a learned variance; x is the network's input."""
        if self.guidance is None or self.label is None:
            return self.network(x, times, self.label)
        labels = torch.cat([self.label, torch.full_like(self.label, self.guidance.null_label)])
        conditional, unconditional = self.network(x.repeat(2, 1, 1, 1), times.repeat(2), labels).chunk(2)
        return self.guidance.combine(conditional, unconditional, channels)

    def _with_known(self, known: KnownPixels, estimate: Denoised, x: Tensor, t: int) -> Denoised:
        """Replace the estimates at known pixels: an ancestral step there samples from the true posterior.

        That posterior is Ho et al. (2020), eq. 7, and its variance is selected by a spread of -1.
        """
        x0 = torch.where(known.where, known.x0, estimate.x0)
        eps = torch.where(known.where, self.process.eps(x0, x, t), estimate.eps)
        spread = None if estimate.spread is None else estimate.spread.masked_fill(known.where, -1)
        return Denoised(x0, eps, spread)


def split_learned_variance(output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """Split a network's output into the prediction [B, channels, H, W] and the spread [B, channels, H, W] or None.

    The spread selects the variance of a step; a network has it if its variance is learned.
    """
    return output[:, :channels], output[:, channels:] if output.shape[1] > channels else None
