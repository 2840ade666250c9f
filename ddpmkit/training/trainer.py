"""One optimizer step after another: batch, noise, loss, gradient, clip, Adam, average.

A step is a pure function of the weights and its number. It does not know about intervals, folders or who is watching.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ddpmkit.contracts import Loss
from ddpmkit.data.images import ImageSource
from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit.errors import RunFailed
from ddpmkit.randomness import Purpose, normal, uniform_integers
from ddpmkit.recipe import TrainSection
from ddpmkit.runtime import Runtime
from ddpmkit.training.ema import Ema
from ddpmkit.training.progress import LossByQuarter

__all__ = ["StepOutcome", "Trainer"]


class StepOutcome(NamedTuple):
    """Mean loss of the global batch, gradient norm before clipping, learning rate."""

    loss: float
    gradient_norm: float
    learning_rate: float


class Trainer:
    """All that changes while training: the weights, their average, Adam's moments, the sums since the last record."""

    def __init__(
        self,
        network: nn.Module,
        process: GaussianDiffusion,
        loss: Loss,
        images: ImageSource,
        settings: TrainSection,
        runtime: Runtime,
    ) -> None:
        """`network` and `process` are on the runtime's device already."""
        self.network, self.process, self.loss = network, process, loss
        self.images, self.settings, self.runtime = images, settings, runtime
        self.step = 0
        self.ema = Ema(network, settings.ema_decay) if settings.ema_decay else None
        self.optimizer = torch.optim.Adam(
            network.parameters(), lr=settings.learning_rate, betas=settings.betas, fused=True
        )
        self.by_quarter = LossByQuarter(process.timesteps, runtime.device)

    def train_step(self) -> StepOutcome:
        """Take optimizer step `self.step + 1`.

        Raises RunFailed on a loss or gradient that is not finite, before it reaches the weights.
        """
        settings = self.settings
        learning_rate = self.learning_rate_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.runtime.device)
        size = settings.batch_size // settings.accumulate
        for part in range(settings.accumulate):
            # Each part's share of the mean over the whole batch, so that accumulating changes nothing but memory.
            share = self._losses(range(part * size, (part + 1) * size)).sum() / settings.batch_size
            share.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total += share.detach()
        gradient_norm = self._clip()
        outcome = StepOutcome(float(total), float(gradient_norm), learning_rate)
        if not (math.isfinite(outcome.loss) and math.isfinite(outcome.gradient_norm)):
            raise RunFailed(
                f"step {self.step + 1}: the loss is {outcome.loss} and the gradient norm {outcome.gradient_norm}; "
                "the weights were left as they were.",
                remedies=["a smaller train.learning_rate", "train.gradient_clip = 1.0", "train.warmup_steps = 500"],
            )
        self.optimizer.step()
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.network, self.step)
        return outcome

    def learning_rate_at(self, step: int) -> float:
        """Grows linearly over the first `warmup_steps` steps (counted from 0), then stays."""
        return self.settings.learning_rate * min(1.0, (step + 1) / max(1, self.settings.warmup_steps))

    def averaged(self) -> nn.Module:
        """The averaged network, or the network itself when no average is kept."""
        return self.ema.network if self.ema is not None else self.network

    def _losses(self, positions: range) -> Tensor:
        """Per-sample losses [len(positions)] of these positions of the global batch."""
        settings, device = self.settings, self.runtime.device
        x0 = self.images.batch(self.step, positions, settings.batch_size).x0
        t = uniform_integers(settings.seed, Purpose.TIMESTEP, self.step, positions, self.process.timesteps)
        noise = normal(settings.seed, Purpose.NOISE, self.step, positions, self.images.image_shape)
        losses = diffusion_losses(
            self.network, self.process, self.loss, x0.to(device), t.to(device), noise.to(device), self.runtime
        )
        self.by_quarter.add(t.to(device), losses)
        return losses

    def _clip(self) -> Tensor:
        """The gradient norm over all weights, after scaling it down to `gradient_clip` (0: never)."""
        return nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip or math.inf)


def diffusion_losses(
    network: nn.Module,
    process: GaussianDiffusion,
    loss: Loss,
    x0: Tensor,
    t: Tensor,
    noise: Tensor,
    runtime: Runtime,
) -> Tensor:
    """Per-sample losses [B] at x0 [B, C, H, W], t int64 [B] and noise: Ho et al. (2020), algorithm 1."""
    with runtime.autocast():
        prediction = network(process.q_sample(x0, t, noise), t, None)
    return loss(prediction.float(), process.target(x0, t, noise), process.alpha_bar[t])
