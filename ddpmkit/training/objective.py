"""What the network is asked in training, and how wrong its answer is: Ho et al. (2020), algorithm 1.

It does not know the weights' gradient, nor in what order images come.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape, Loss, VarianceLoss
from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit.diffusion.checks import check_network_output, describe
from ddpmkit.diffusion.denoiser import split_learned_variance
from ddpmkit.errors import WrongAnswer
from ddpmkit.global_state import Around
from ddpmkit.randomness import Purpose, normal, stream
from ddpmkit.runtime import Runtime
from ddpmkit.training.vlb import variational_bound

__all__ = ["Objective"]


@dataclass(frozen=True)
class Objective:
    """The process that noises images, and the loss of the network's answer."""

    process: GaussianDiffusion
    loss: Loss
    offset_noise: float = 0.0
    """Standard deviation of noise that all pixels of a channel share; the recipe says what it is for."""
    num_classes: int = 0
    """0: the network is told no class."""
    label_dropout: float = 0.0
    """Share of images whose class the network is not told in training."""
    around: Around = contextlib.nullcontext
    """Entered around each call of the network ("backbone") and of the loss ("loss")."""

    def noise(self, seed: int, step: int, positions: Sequence[int], image_shape: ImageShape) -> Tensor:
        """The noise of these images of the batch of `step`: float32 [B, C, H, W], on the CPU."""
        noise = normal(seed, Purpose.NOISE, step, positions, image_shape)
        if self.offset_noise:
            shared = normal(seed, Purpose.OFFSET, step, positions, (image_shape.channels, 1, 1))
            noise += self.offset_noise * shared
        return noise

    def told(self, seed: int, step: int, positions: Sequence[int], label: Tensor) -> Tensor | None:
        """What the network is told in training of images with these labels int64 [B]; None: nothing.

        A label is dropped, that is `num_classes`, for classifier-free guidance: Ho & Salimans (2022), algorithm 1.
        """
        if not self.num_classes:
            return None
        draws = [stream(seed, Purpose.LABEL_DROPOUT, step, position).random() for position in positions]
        return label.masked_fill(torch.tensor(draws) < self.label_dropout, self.num_classes)

    def estimates_first(self, seed: int, step: int) -> bool:
        """Whether the network is given its own estimate in training at `step`: at half of them, if at all.

        One draw for the whole batch, so that the other half costs no more: Chen et al. (2022), algorithm 1.
        """
        return self.process.self_conditioning and bool(stream(seed, Purpose.SELF_CONDITIONING, step).random() < 0.5)

    def losses(
        self,
        network: nn.Module,
        x0: Tensor,
        t: Tensor,
        noise: Tensor,
        label: Tensor | None,
        runtime: Runtime,
        *,
        estimate_first: bool = False,
    ) -> Tensor:
        """Per-sample losses [B] at x0 [B, C, H, W], t int64 [B], noise and label int64 [B] or None.

        `estimate_first`: give the network what it says of x0 without an estimate. No gradient passes through that.
        """
        process = self.process
        x = process.q_sample(x0, t, noise)
        x0_hat = None
        if estimate_first:
            # An autocast of its own: weights that it casts without gradient would be used again in the same one.
            with torch.no_grad(), runtime.autocast(), self.around("backbone"):
                output = network(process.network_input(x), t, label)
            x0_hat = process.denoised(split_learned_variance(output.float(), x0.shape[1])[0], x, t).x0
        with runtime.autocast(), self.around("backbone"):
            output = network(process.network_input(x, x0_hat), t, label)
        check_network_output(output, len(x0), x0.shape[1:], x0.device)
        answer, spread = split_learned_variance(output.float(), x0.shape[1])
        with self.around("loss"):
            losses = self.loss(answer, process.target(x0, t, noise), process.alpha_bar_in_double(t))
        losses = _checked(losses, x0).to(answer.dtype)
        if spread is None:
            return losses
        # The mean learns nothing from the bound, which is too noisy for it: Nichol & Dhariwal (2021), section 3.1.
        x0_hat = process.denoised(answer.detach(), x, t).x0
        bound = variational_bound(process, x0, t, x0_hat, spread)
        with self.around("loss"):
            losses = cast(VarianceLoss, self.loss).with_bound(losses, bound)
        return _checked(losses, x0)


def _checked(losses: Tensor, x0: Tensor) -> Tensor:
    """Raises WrongAnswer unless there is one loss for each image."""
    if not isinstance(losses, Tensor) or losses.shape != x0.shape[:1] or not losses.is_floating_point():
        raise WrongAnswer("loss", f"it must return one loss per image, float [{len(x0)}], not {describe(losses)}")
    if losses.device != x0.device:
        raise WrongAnswer("loss", f"it must return losses on the device {x0.device}, not {losses.device}")
    return losses
