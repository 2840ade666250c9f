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
from ddpmkit.recipe import TrainSection, WeightsChoice
from ddpmkit.training.ema import Average, PowerEma, build_averages
from ddpmkit.training.loss_by_quarter import LossByQuarter
from ddpmkit.training.objective import BatchKey, Objective
from ddpmkit.training.optimizer import Optimizer

__all__ = ["NotFinite", "StepOutcome", "Trainer"]

# Far more than the steps of any run, so that batches after a rollback differ from all that the run would see otherwise.
_ROLLBACK_OFFSET = 2**40
_EMA = WeightsChoice("ema")


class StepOutcome(NamedTuple):
    """Mean loss of the global batch, gradient norm before clipping, learning rate."""

    loss: float
    gradient_norm: float
    learning_rate: float


class NotFinite(Exception):
    """A loss, gradient or weight is NaN or infinity. `facts` contain the step, the images, the timesteps, ..."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__(", ".join(f"{name} {value}" for name, value in facts.items()))
        self.facts = facts


class _Part(NamedTuple):
    """A part of a batch: indices into the dataset int64 [B], timesteps int64 [B], losses [B]."""

    indices: Tensor
    t: Tensor
    losses: Tensor


class Trainer:
    """Everything that changes during training: weights, averages, optimizer state, sums since the last record."""

    def __init__(self, network: nn.Module, objective: Objective, images: ImageSource, settings: TrainSection) -> None:
        """`network` and the objective's process must be on the device of the objective's runtime."""
        self.network, self.objective, self.images, self.settings = network, objective, images, settings
        self.step = 0
        self.skipped = 0
        """Steps skipped since the last one that was taken."""
        self.rollbacks = 0
        """How often the run was rolled back; each time it continues with other batches and other noise."""
        self.averages: dict[WeightsChoice, Average] = build_averages(network, settings)
        self.optimizer = Optimizer(network, settings)
        self.is_updating = False
        """Whether weights, optimizer and averages belong to different steps; the state must not be saved then."""
        self.loss_by_quarter = LossByQuarter(objective.process.timesteps, objective.runtime.device)
        self.phase: Callable[[str], AbstractContextManager[object]] = contextlib.nullcontext
        """Entered around each phase of a step with its name, to measure where the time goes."""

    def train_step(self) -> StepOutcome:
        """Take optimizer step `self.step + 1`.

        Raises NotFinite for a loss or gradient that is NaN or infinity, before it reaches the weights.
        """
        settings = self.settings
        learning_rate = self.learning_rate_at(self.step)
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.objective.runtime.device)
        size, parts = settings.batch_size // settings.accumulate, []
        for index in range(settings.accumulate):
            part = self._part(range(index * size, (index + 1) * size))
            # The part's share of the mean over the batch: accumulation changes only the memory.
            share = part.losses.sum() / settings.batch_size
            with self.phase("backward"):
                share.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            total += share.detach()
            parts.append(part._replace(losses=part.losses.detach()))
        with self.phase("clipping"):
            outcome = StepOutcome(float(total), float(self._clip()), learning_rate)
        if not (math.isfinite(outcome.loss) and math.isfinite(outcome.gradient_norm)):
            raise NotFinite(_facts(self.step + 1, outcome, parts))
        for part in parts:
            self.loss_by_quarter.add(part.t, part.losses)
        self.is_updating = True
        with self.phase("optimizer"):
            self.optimizer.step(learning_rate)
        self.step, self.skipped = self.step + 1, 0
        if self.averages:
            with self.phase("moving average"):
                for average in self.averages.values():
                    average.update(self.network, self.step)
        self.is_updating = False
        return outcome

    def skip_step(self) -> None:
        """Skip the step for which `train_step` raised NotFinite: weights stay, the next step gets the next batch."""
        self.step, self.skipped = self.step + 1, self.skipped + 1
        for average in self.averages.values():
            # Its profile covers all steps: the unchanged weights count for one step more.
            if isinstance(average, PowerEma):
                average.update(self.network, self.step)

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of optimizer step `step + 1`.

        It grows linearly over `warmup_steps`, then stays, or decays to 0 at `steps`.
        """
        settings = self.settings
        warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
        decaying = max(1, settings.steps - settings.warmup_steps)
        left = min(1.0, max(0.0, (settings.steps - step) / decaying))
        decay = {"none": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}
        return settings.learning_rate * warm * decay[settings.learning_rate_decay]

    def averaged(self, weights: WeightsChoice = _EMA) -> nn.Module:
        """The network with this average, or the network itself if the recipe keeps no such average."""
        return self.averages[weights].network if weights in self.averages else self.network

    def _part(self, positions: range) -> _Part:
        """The losses of the images at these positions of the global batch."""
        settings = self.settings
        key = BatchKey(settings.seed, self.step + self.rollbacks * _ROLLBACK_OFFSET, positions)
        with self.phase("data and noise"):
            batch = self.images.batch(key.step, positions, settings.batch_size)
        return _Part(batch.indices, *self.objective.training_losses(self.network, batch, key, self.phase))

    def _clip(self) -> Tensor:
        """Scale the gradient down to norm `gradient_clip` (0: never) and return its norm before that."""
        return nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip or math.inf)


def _facts(step: int, outcome: StepOutcome, parts: Sequence[_Part]) -> dict[str, Any]:
    """Plain JSON values; NaN and infinity as text."""
    losses = torch.cat([part.losses.float() for part in parts])
    return {
        "step": step,
        "loss": str(outcome.loss),
        "gradient_norm": str(outcome.gradient_norm),
        "images": torch.cat([part.indices for part in parts]).tolist(),
        "timesteps": torch.cat([part.t for part in parts]).tolist(),
        "losses": [str(value) for value in losses.tolist()],
    }
