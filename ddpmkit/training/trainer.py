"""Optimizer steps: batch, noise, loss, gradient, clipping, update, moving averages.

A step is a pure function of the weights and of its index.
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddpmkit.data.images import ImageSource
from ddpmkit.randomness import Purpose, integer
from ddpmkit.recipe import TrainSection, WeightsChoice
from ddpmkit.runtime import seeded_step
from ddpmkit.training.ema import Average, PowerEma, build_averages
from ddpmkit.training.learning_rate import learning_rate_at
from ddpmkit.training.loss_by_quarter import LossByQuarter
from ddpmkit.training.objective import BatchKey, Objective
from ddpmkit.training.optimizer import Optimizer, clip_gradient

__all__ = ["NotFinite", "StepOutcome", "Trainer"]

# Larger than the number of steps of any run, so that the batches after a rollback are new ones; and small enough for
# 65,535 rollbacks, because a step of `ddpmkit.randomness` has 48 bits.
_ROLLBACK_OFFSET = 2**32
_EMA = WeightsChoice("ema")


class StepOutcome(NamedTuple):
    """Mean loss of the batch, gradient norm before clipping, learning rate."""

    loss: float
    gradient_norm: float
    learning_rate: float


class NotFinite(Exception):
    """A loss, gradient or weight is NaN or infinity. `facts` contain the step, the images, the timesteps, ..."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__(", ".join(f"{name} {value}" for name, value in facts.items()))
        self.facts = facts


class _MicroBatch(NamedTuple):
    """A part of a batch: indices into the dataset int64 [B], timesteps int64 [B], losses [B]."""

    indices: Tensor
    t: Tensor
    losses: Tensor


class Trainer:
    """Everything that changes in training: weights, averages, optimizer state, loss sums since the last log record."""

    def __init__(self, network: nn.Module, objective: Objective, images: ImageSource, settings: TrainSection) -> None:
        """`network` and the objective's process must be on the device of the objective's runtime."""
        self.network, self.objective, self.images, self.settings = network, objective, images, settings
        self.step = 0
        self.skipped = 0
        """Number of steps that were skipped after the last optimizer step."""
        self.rollbacks = 0
        """Number of rollbacks. After each, the run uses other batches and other noise."""
        self.averages: dict[WeightsChoice, Average] = build_averages(network, settings)
        self.optimizer = Optimizer(network, settings)
        self.is_updating = False
        """True during an update, when weights and averages are from different steps. Do not save the state then."""
        self.loss_by_quarter = LossByQuarter(objective.process.timesteps, objective.runtime.device)
        self.phase: Callable[[str], AbstractContextManager[object]] = contextlib.nullcontext
        """Context manager around each phase of a step, given the name of the phase, to measure its time."""

    def train_step(self) -> StepOutcome:
        """Take optimizer step `self.step + 1`, with the learning rate of `ddpmkit.training.learning_rate`.

        Raises NotFinite for a loss or gradient that is NaN or infinity, before it reaches the weights.
        """
        settings = self.settings
        learning_rate = learning_rate_at(self.step + 1, settings)
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.objective.runtime.device)
        size, micro_batches = settings.batch_size // settings.accumulate, []
        for index in range(settings.accumulate):
            micro_batch = self._micro_batch(range(index * size, (index + 1) * size))
            # The sum of these losses is the mean over the batch, so accumulation changes the memory use but not the
            # gradient.
            loss = micro_batch.losses.sum() / settings.batch_size
            with self.phase("backward"):
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total += loss.detach()
            micro_batches.append(micro_batch._replace(losses=micro_batch.losses.detach()))
        with self.phase("clipping"):
            outcome = StepOutcome(float(total), float(self._clip()), learning_rate)
        if not (math.isfinite(outcome.loss) and math.isfinite(outcome.gradient_norm)):
            raise NotFinite(_facts(self.step + 1, outcome, micro_batches))
        device = self.objective.runtime.device
        is_finite = torch.ones((), dtype=torch.bool, device=device)
        for micro_batch in micro_batches:
            self.loss_by_quarter.add(micro_batch.t, micro_batch.losses, is_finite)
        self.is_updating = True
        with self.phase("optimizer"):
            self.optimizer.update(torch.tensor(learning_rate, device=device), is_finite)
        self.step, self.skipped = self.step + 1, 0
        if self.averages:
            with self.phase("moving average"):
                for average in self.averages.values():
                    self._update_average(average)
        self.is_updating = False
        return outcome

    def skip_step(self) -> None:
        """Skip the step for which `train_step` raised NotFinite.

        The weights do not change, and the next step uses the next batch.
        """
        self.step, self.skipped = self.step + 1, self.skipped + 1
        for average in self.averages.values():
            # The profile of this average counts every step, also a skipped one.
            if isinstance(average, PowerEma):
                self._update_average(average)

    def _update_average(self, average: Average) -> None:
        weight = torch.tensor(1 - average.decay_at(self.step), device=self.objective.runtime.device)
        average.update(self.network, weight)

    def averaged_network(self, weights: WeightsChoice = _EMA) -> nn.Module:
        """Return the network with this average, or the network itself if the recipe does not store this average."""
        return self.averages[weights].network if weights in self.averages else self.network

    def _micro_batch(self, positions: range) -> _MicroBatch:
        """Return the losses of the images at these positions of the batch."""
        settings = self.settings
        step = self.step + self.rollbacks * _ROLLBACK_OFFSET
        device = self.objective.runtime.device
        with self.phase("data and noise"):
            batch = self.images.batch(step, positions, settings.batch_size)
            batch = batch._replace(x0=batch.x0.to(device), label=batch.label.to(device))
        # Randomness in the network itself, such as dropout, is a function of seed and step too.
        seed = integer(settings.seed, Purpose.NETWORK, step, positions.start)
        with seeded_step(seed, device):
            losses = self.objective.training_losses(
                self.network,
                batch,
                BatchKey(settings.seed, step, torch.arange(positions.start, positions.stop, device=device)),
                self.phase,
                self_condition=self.objective.conditions_on_estimate(settings.seed, step),
            )
        return _MicroBatch(batch.indices, *losses)

    def _clip(self) -> Tensor:
        """Scale the gradient down to norm `gradient_clip` (0: never) and return the norm that it had before."""
        return clip_gradient(self.network.parameters(), self.settings.gradient_clip)


def _facts(step: int, outcome: StepOutcome, micro_batches: Sequence[_MicroBatch]) -> dict[str, Any]:
    """Return the facts about a step as plain JSON values; NaN and infinity are texts."""
    losses = torch.cat([each.losses.float() for each in micro_batches])
    return {
        "step": step,
        "loss": str(outcome.loss),
        "gradient_norm": str(outcome.gradient_norm),
        "images": torch.cat([each.indices for each in micro_batches]).tolist(),
        "timesteps": torch.cat([each.t for each in micro_batches]).tolist(),
        "losses": [str(value) for value in losses.tolist()],
    }
