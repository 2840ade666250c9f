"""Optimizer steps: batch, noise, loss, gradient, clipping, update, moving averages.

A step is a pure function of the weights and of its index. It is a program over tensors that keep their memory: the host
queues it and reads its result later, and a CUDA device replays it from a graph.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import nn

from ddpmkit.data.images import ImageSource
from ddpmkit.data.training_batches import TrainingBatches
from ddpmkit.device_program import DeviceProgram
from ddpmkit.randomness import Purpose, integer
from ddpmkit.recipe import TrainSection, WeightsChoice
from ddpmkit.runtime import seeded_step
from ddpmkit.training.ema import Average, PowerEma, build_averages
from ddpmkit.training.learning_rate import learning_rate_at
from ddpmkit.training.loss_by_quarter import LossByQuarter
from ddpmkit.training.network_buffers import NetworkBuffers
from ddpmkit.training.objective import BatchKey, Objective
from ddpmkit.training.optimizer import Optimizer, clip_gradient
from ddpmkit.training.step_results import NonfiniteGate, StepResult, StepResults

__all__ = ["NotFinite", "StepOutcome", "Trainer"]

# Larger than the number of steps of any run, so that the batches after a rollback are new ones; and small enough for
# 65,535 rollbacks, because a step of `ddpmkit.randomness` has 48 bits.
_ROLLBACK_OFFSET = 2**32
_EMA = WeightsChoice("ema")
_LARGEST = torch.finfo(torch.float32).max
# A step that is refused wastes the steps that are queued after it.
_MOST_QUEUED = 100


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


class Trainer:
    """Everything that changes in training: weights, averages, optimizer state, loss sums since the last log record."""

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        images: ImageSource,
        settings: TrainSection,
        *,
        capture: bool = True,
        refused: Callable[[Exception], None] = lambda _error: None,
    ) -> None:
        """`network` and the objective's process must be on the device of the objective's runtime.

        `capture` and `refused` are those of `DeviceProgram`.
        """
        self.network, self.objective, self.images, self.settings = network, objective, images, settings
        self.step = 0
        """Number of steps, including those that are queued."""
        self.skipped = 0
        """Number of steps that were skipped after the last optimizer step, when `settle` was called."""
        self.rollbacks = 0
        """Number of rollbacks. After each, the run uses other batches and other noise."""
        self.averages: dict[WeightsChoice, Average] = build_averages(network, settings)
        self.optimizer = Optimizer(network, settings)
        self.is_updating = False
        """True during an update, when weights and averages are from different steps. Do not save the state then."""
        device = objective.runtime.device
        self.loss_by_quarter = LossByQuarter(objective.process.timesteps, device)
        self.phase: Callable[[str], AbstractContextManager[object]] = contextlib.nullcontext
        """Context manager around each phase of a step, given the name of the phase, to measure its time. With it, a
        step is not replayed from a graph."""
        self.on_skip: Callable[[NotFinite], None] = lambda _error: None
        """Called by `settle` for each step that was skipped because it was not finite."""
        self._batches = TrainingBatches(images, settings.batch_size, objective.runtime)
        self._buffers = NetworkBuffers(network)
        self._gate = NonfiniteGate(settings.nonfinite_limit if settings.on_nonfinite == "skip" else 0, device)
        self._results = StepResults(min(settings.log_every, _MOST_QUEUED), settings.batch_size, device)
        self._queued = 0
        self._outcome: StepOutcome | None = None
        # The inputs of `compute_step`.
        self._index = torch.zeros((), dtype=torch.int64, device=device)
        self._learning_rate = torch.zeros((), device=device)
        self._average_weights = {choice: torch.zeros((), device=device) for choice in self.averages}
        self._programs = {
            self_condition: DeviceProgram(
                functools.partial(self.compute_step, self_condition=self_condition),
                device,
                capture=capture,
                refused=refused,
            )
            for self_condition in (False, True)
        }

    def train_step(self) -> None:
        """Queue optimizer step `self.step + 1`, with the learning rate of `ddpmkit.training.learning_rate`.

        A step whose loss or gradient is NaN or infinity does not change the weights. If too many steps are queued, this
        calls `settle`.
        """
        if self._queued == self._results.capacity:
            self.settle()
        seed, index = self.settings.seed, self._batch_index(self.step)
        with self.phase("data and noise"):
            self._batches.load(index)
        self._index.fill_(index)
        self._learning_rate.fill_(min(learning_rate_at(self.step + 1, self.settings), _LARGEST))
        for choice, average in self.averages.items():
            self._average_weights[choice].fill_(1 - average.decay_at(self.step + 1))
        self_condition = self.objective.conditions_on_estimate(seed, index)
        # Randomness in the network itself, such as dropout, is a function of seed and step too.
        with seeded_step(integer(seed, Purpose.NETWORK, index), self.objective.runtime.device):
            try:
                if self.phase is contextlib.nullcontext:
                    self._programs[self_condition]()
                else:
                    self.compute_step(self_condition=self_condition)
            except BaseException:
                if not self.is_updating:  # a part of the network may have updated its buffers
                    self._buffers.restore()
                raise
        self.step, self._queued = self.step + 1, self._queued + 1

    def compute_step(self, *, self_condition: bool) -> None:
        """Compute and apply the step whose batch, index, learning rate and weights of averages are on the device.

        It reads nothing on the host.
        """
        settings, device = self.settings, self.objective.runtime.device
        self._buffers.save()
        self.optimizer.zero_grad()
        size, loss = settings.batch_size // settings.accumulate, torch.zeros((), device=device)
        timesteps, losses = [], []
        for start in range(0, settings.batch_size, size):
            with self.phase("data and noise"):
                batch = self._batches.batch(self._index, range(start, start + size))
            found = self.objective.training_losses(
                self.network,
                batch,
                BatchKey(settings.seed, self._index, torch.arange(start, start + size, device=device)),
                self.phase,
                self_condition=self_condition,
            )
            # The sum of these losses is the mean over the batch, so accumulation changes the memory use but not the
            # gradient.
            part = found.losses.sum() / settings.batch_size
            with self.phase("backward"):
                part.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            loss += part.detach()
            timesteps.append(found.t)
            losses.append(found.losses.detach())
        with self.phase("clipping"):
            gradient_norm = clip_gradient(self.network.parameters(), settings.gradient_clip)
        judgement = self._gate.judge(loss, gradient_norm)
        self._results.add(judgement, loss, gradient_norm, torch.cat(losses))
        is_applied, is_counted = judgement
        self.loss_by_quarter.add(torch.cat(timesteps), torch.cat(losses), is_applied)
        self.is_updating = True
        self._buffers.finish(is_applied)
        with self.phase("optimizer"):
            self.optimizer.update(self._learning_rate, is_applied)
        with self.phase("moving average"):
            for choice, average in self.averages.items():
                # The profile of a power-function average counts every step, also a skipped one.
                counts = is_counted if isinstance(average, PowerEma) else is_applied
                average.update(self.network, self._average_weights[choice] * counts)
        self.is_updating = False

    def settle(self) -> StepOutcome | None:
        """Wait for the queued steps. Return the outcome of the last step; None if it was skipped, or there is none.

        Raises NotFinite if a step was refused because its loss or gradient is NaN or infinity. `step` is then the
        number of steps before it, and the weights are those after that step.
        """
        first, results = self.step - self._queued, self._results.read(self._queued)
        self._queued = 0
        for step, result in enumerate(results, first + 1):
            if not result.is_counted:
                self.restart(step - 1, skipped=self.skipped, rollbacks=self.rollbacks)
                raise self._not_finite(step, result)
            if result.is_applied:
                learning_rate = learning_rate_at(step, self.settings)
                self.skipped, self._outcome = 0, StepOutcome(result.loss, result.gradient_norm, learning_rate)
            else:
                self.skipped, self._outcome = self.skipped + 1, None
                self.on_skip(self._not_finite(step, result))
        return self._outcome

    def restart(self, step: int, *, skipped: int = 0, rollbacks: int = 0) -> None:
        """Continue after `step`, with the weights as they are. Queued steps are forgotten."""
        self._results.read(0)
        self._queued, self._outcome = 0, None
        self.step, self.skipped, self.rollbacks = step, skipped, rollbacks
        self._gate.open(skipped)

    def averaged_network(self, weights: WeightsChoice = _EMA) -> nn.Module:
        """Return the network with this average, or the network itself if the recipe does not store this average."""
        return self.averages[weights].network if weights in self.averages else self.network

    def _batch_index(self, step: int) -> int:
        """Return the index of the batch of optimizer step `step + 1`, which determines all its random numbers."""
        return step + self.rollbacks * _ROLLBACK_OFFSET

    def _not_finite(self, step: int, result: StepResult) -> NotFinite:
        """Return the error with the facts about a step."""
        index = self._batch_index(step - 1)
        key = BatchKey(self.settings.seed, index, torch.arange(self.settings.batch_size))
        return NotFinite(
            {
                "step": step,
                "loss": result.loss,
                "gradient_norm": result.gradient_norm,
                "images": self._batches.indices_of(index).tolist(),
                "timesteps": self.objective.sample_timesteps(key).tolist(),
                "losses": list(result.losses),
            }
        )
