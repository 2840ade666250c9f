"""The training objective: noise images, call the network, compute the loss. Ho et al. (2020), algorithm 1."""

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ddpmkit.contracts import Loss, VarianceLoss
from ddpmkit.data.images import Batch
from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit.diffusion.checks import check_network_output, describe
from ddpmkit.diffusion.denoiser import split_learned_variance
from ddpmkit.errors import ContractError
from ddpmkit.global_state import Guard
from ddpmkit.randomness import Purpose, integer, integers, normal, uniform
from ddpmkit.runtime import Runtime
from ddpmkit.training.vlb import variational_bound

__all__ = ["BatchKey", "NoisedBatch", "Objective", "TrainingLosses"]


class BatchKey(NamedTuple):
    """The seed and the counters that determine all random numbers of a training batch."""

    seed: int
    step: int | Tensor
    """Index of the batch, an integer or int64 []; after a rollback it is not the index of the optimizer step."""
    positions: Tensor
    """Positions of the images in the batch, int64 [B]. If gradients are accumulated, these are a part of the batch."""


class NoisedBatch(NamedTuple):
    """Clean images with everything that is sampled for them."""

    x0: Tensor
    """float32 [B, C, H, W] in [-1, 1]."""
    t: Tensor
    """int64 [B]."""
    noise: Tensor
    """float32 [B, C, H, W]."""
    label: Tensor | None = None
    """int64 [B]; None: the network is unconditional."""
    self_condition: bool = False
    """Call the network twice, the second time with its own estimate of x0 (self-conditioning)."""


class TrainingLosses(NamedTuple):
    """The timesteps `t`, int64 [B], and the loss of each image at its timestep, [B]."""

    t: Tensor
    losses: Tensor


@dataclass(frozen=True)
class Objective:
    """The diffusion process, the loss, and the recipe's settings for noising a batch."""

    process: GaussianDiffusion
    loss: Loss
    runtime: Runtime
    offset_noise: float = 0.0
    """Standard deviation of additional noise that all pixels of a channel share."""
    num_classes: int = 0
    """0: the network is unconditional."""
    label_dropout: float = 0.0
    """Fraction of images whose label is replaced by the null label."""
    guard: Guard = contextlib.nullcontext
    """Context manager around each call of the network ("backbone") and of the loss ("loss")."""

    def training_losses(
        self,
        network: nn.Module,
        batch: Batch,
        key: BatchKey,
        phase: Callable[[str], AbstractContextManager[object]] = contextlib.nullcontext,
        *,
        self_condition: bool = False,
    ) -> TrainingLosses:
        """Noise a training batch and compute its losses.

        `phase("data and noise")` and `phase("forward")` are entered, to measure time. Raises ContractError for losses
        without a gradient.
        """
        with phase("data and noise"):
            noised = self.noise_batch(batch, key, self_condition=self_condition)
        with phase("forward"):
            losses = self.losses(network, noised)
        if not losses.requires_grad:
            raise ContractError("loss", "its return value has no gradient: it does not depend on the prediction")
        return TrainingLosses(noised.t, losses)

    def noise_batch(self, batch: Batch, key: BatchKey, *, self_condition: bool = False) -> NoisedBatch:
        """Sample timesteps, noise and dropped labels for a training batch."""
        return NoisedBatch(
            batch.x0,
            self.sample_timesteps(key),
            self.sample_noise(key, batch.x0.shape[1:]),
            self.drop_labels(batch.label, key),
            self_condition,
        )

    def sample_timesteps(self, key: BatchKey) -> Tensor:
        """Return the timesteps of a training batch: int64 [B], on the device of the positions."""
        return integers(key.seed, Purpose.TIMESTEP, key.step, key.positions, self.process.timesteps)

    def sample_noise(self, key: BatchKey, image_shape: Sequence[int]) -> Tensor:
        """Return the noise of a training batch: float32 [B, C, H, W], on the device of the positions."""
        noise = normal(key.seed, Purpose.NOISE, key.step, key.positions, image_shape)
        if self.offset_noise:
            shared = normal(key.seed, Purpose.OFFSET, key.step, key.positions, (image_shape[0], 1, 1))
            noise += self.offset_noise * shared
        return noise

    def drop_labels(self, label: Tensor, key: BatchKey) -> Tensor | None:
        """Return labels int64 [B], some replaced by the null label `num_classes`; None if there are no classes.

        Classifier-free guidance needs an unconditional network as well: Ho & Salimans (2022), algorithm 1.
        """
        if not self.num_classes:
            return None
        is_dropped = uniform(key.seed, Purpose.LABEL_DROPOUT, key.step, key.positions) < self.label_dropout
        return label.masked_fill(is_dropped, self.num_classes)

    def conditions_on_estimate(self, seed: int, step: int) -> bool:
        """Return whether the network receives its own estimate of x0: at half of the steps, with self-conditioning.

        The whole batch makes the same choice, so the other half of the steps need only one network call: Chen et al.
        (2022), algorithm 1.
        """
        return self.process.self_conditioning and integer(seed, Purpose.SELF_CONDITIONING, step) % 2 == 1

    def losses(self, network: nn.Module, batch: NoisedBatch) -> Tensor:
        """Return the loss of each image, [B]. No gradient passes through the estimate of self-conditioning.

        Raises ContractError if the network or the loss returns a tensor of another form.
        """
        process, (x0, t, noise) = self.process, batch[:3]
        x = process.q_sample(x0, t, noise)
        x0_hat = None
        if batch.self_condition:
            with torch.no_grad():
                prediction, _ = self._prediction(network, x, None, batch)
            x0_hat = process.denoised(prediction, x, t).x0
        prediction, spread = self._prediction(network, x, x0_hat, batch)
        with self.guard("loss"):
            losses = self.loss(prediction, process.target(x0, t, noise), process.alpha_bar_in_double(t))
        losses = _checked(losses, x0).to(prediction.dtype)
        if spread is None:
            return losses
        # Only the variance is trained by the bound, because the bound is too noisy to train the mean: Nichol & Dhariwal
        # (2021), section 3.1.
        x0_hat = process.denoised(prediction.detach(), x, t).x0
        bound = variational_bound(process, x0, t, x0_hat, spread)
        with self.guard("loss"):
            losses = cast(VarianceLoss, self.loss).with_bound(losses, bound)
        return _checked(losses, x0)

    def _prediction(
        self, network: nn.Module, x: Tensor, x0_hat: Tensor | None, batch: NoisedBatch
    ) -> tuple[Tensor, Tensor | None]:
        """Return the prediction and, for a learned variance, the `spread` of the network, both float32 [B, C, H, W]."""
        # Each call has its own autocast block: a single block would cache weights that were cast under `no_grad`, and
        # the second call would get no gradient.
        with self.runtime.autocast(), self.guard("backbone"):
            output = network(self.process.network_input(x, x0_hat), batch.t, batch.label)
        check_network_output(output, len(x), x.shape[1:], x.device)
        return split_learned_variance(output.float(), x.shape[1])


def _checked(losses: Tensor, x0: Tensor) -> Tensor:
    """Return `losses`. Raises ContractError unless there is one loss for each image."""
    if not isinstance(losses, Tensor) or losses.shape != x0.shape[:1] or not losses.is_floating_point():
        raise ContractError("loss", f"it must return one loss per image, float [{len(x0)}], not {describe(losses)}")
    if losses.device != x0.device:
        raise ContractError("loss", f"it must return losses on the device {x0.device}, not {losses.device}")
    return losses
