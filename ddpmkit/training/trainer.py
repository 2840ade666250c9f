"""One optimizer step after another: batch, noise, loss, gradient, clip, Adam, average.

A step is a pure function of the weights and its number. It does not know about intervals, folders or who is watching.
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddpmkit.data.images import ImageSource
from ddpmkit.errors import WrongAnswer
from ddpmkit.randomness import Purpose, stream, uniform_integers
from ddpmkit.recipe import TrainSection, Weights
from ddpmkit.runtime import Runtime, seeded_step
from ddpmkit.training.ema import Average, PowerEma, build_averages
from ddpmkit.training.loss_by_quarter import LossByQuarter
from ddpmkit.training.objective import Objective
from ddpmkit.training.optimizer import Optimizer

__all__ = ["NotFinite", "StepOutcome", "Trainer"]

# Far more than the steps of any run: batches drawn on a detour are none of those that lie ahead on the road.
_DETOUR = 2**40
_MAIN = Weights("ema")


class StepOutcome(NamedTuple):
    """Mean loss of the global batch, gradient norm before clipping, learning rate."""

    loss: float
    gradient_norm: float
    learning_rate: float


class NotFinite(Exception):
    """A loss, gradient or weight is no finite number. `facts` say where: step, images of the dataset, timesteps, ..."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__(", ".join(f"{name} {value}" for name, value in facts.items()))
        self.facts = facts


class _Part(NamedTuple):
    """A part of a batch: places in the dataset int64 [B], timesteps int64 [B], losses [B]."""

    picture: Tensor
    t: Tensor
    losses: Tensor


class Trainer:
    """All that changes while training: the weights, their average, Adam's moments, the sums since the last record."""

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        images: ImageSource,
        settings: TrainSection,
        runtime: Runtime,
    ) -> None:
        """`network` and the objective's process are on the runtime's device already."""
        self.network, self.objective = network, objective
        self.images, self.settings, self.runtime = images, settings, runtime
        self.step = 0
        self.skipped = 0
        """Steps passed over since the last one that was taken."""
        self.detours = 0
        """How often the run has gone back; each time it goes on with other batches and other noise."""
        self.averages: dict[Weights, Average] = build_averages(network, settings)
        self.optimizer = Optimizer(network, settings)
        self.is_updating = False
        """Whether weights, optimizer and averages belong to different steps: so, nothing of it may be saved."""
        self.by_quarter = LossByQuarter(objective.process.timesteps, runtime.device)
        self.phase: Callable[[str], AbstractContextManager[object]] = contextlib.nullcontext
        """Entered around each phase of a step with its name, for whoever wants to know where the time goes."""

    def train_step(self) -> StepOutcome:
        """Take optimizer step `self.step + 1`.

        Raises NotFinite on a loss or gradient that is not finite, before it reaches the weights.
        """
        settings = self.settings
        learning_rate = self.learning_rate_at(self.step)
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.runtime.device)
        size, parts = settings.batch_size // settings.accumulate, []
        for number in range(settings.accumulate):
            part = self._part(range(number * size, (number + 1) * size))
            # Its share of the mean over the whole batch, so that accumulating changes nothing but memory.
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
            self.by_quarter.add(part.t, part.losses)
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
        """Pass over the step that `train_step` refused; the weights stay, and the next step sees its own batch."""
        self.step, self.skipped = self.step + 1, self.skipped + 1
        for average in self.averages.values():
            # Its profile is one over all steps: the weights stood where they are for one step more.
            if isinstance(average, PowerEma):
                average.update(self.network, self.step)

    def learning_rate_at(self, step: int) -> float:
        """Of the step after `step` others: grows linearly over `warmup_steps`, then stays or decays to 0 at `steps`."""
        settings = self.settings
        warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
        decaying = max(1, settings.steps - settings.warmup_steps)
        left = min(1.0, max(0.0, (settings.steps - step) / decaying))
        falls = {"none": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}
        return settings.learning_rate * warm * falls[settings.learning_rate_decay]

    def averaged(self, weights: Weights = _MAIN) -> nn.Module:
        """The network with these averages, or the network itself when they are not kept."""
        return self.averages[weights].network if weights in self.averages else self.network

    def _part(self, positions: range) -> _Part:
        """The losses of these positions of the global batch."""
        settings, device = self.settings, self.runtime.device
        draw = self.step + self.detours * _DETOUR
        with self.phase("data and noise"):
            batch = self.images.batch(draw, positions, settings.batch_size)
            x0 = batch.x0.to(device)
            timesteps = self.objective.process.timesteps
            t = uniform_integers(settings.seed, Purpose.TIMESTEP, draw, positions, timesteps).to(device)
            noise = self.objective.noise(settings.seed, draw, positions, self.images.image_shape).to(device)
            label = self.objective.told(settings.seed, draw, positions, batch.label)
            label = None if label is None else label.to(device)
        # What the network itself draws is a function of seed and step too.
        own = int(stream(settings.seed, Purpose.NETWORK, draw, positions.start).integers(2**63))
        with self.phase("forward"), seeded_step(own, device):
            losses = self.objective.losses(
                self.network,
                x0,
                t,
                noise,
                label,
                self.runtime,
                estimate_first=self.objective.estimates_first(settings.seed, draw),
            )
        if not losses.requires_grad:
            raise WrongAnswer("loss", "what it returns has no gradient: it does not depend on the prediction")
        return _Part(batch.picture, t, losses)

    def _clip(self) -> Tensor:
        """The gradient norm over all weights, after scaling it down to `gradient_clip` (0: never)."""
        return nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip or math.inf)


def _facts(step: int, outcome: StepOutcome, parts: Sequence[_Part]) -> dict[str, Any]:
    """Plain values that JSON can hold; what is not finite as its name."""
    losses = torch.cat([part.losses.float() for part in parts])
    return {
        "step": step,
        "loss": str(outcome.loss),
        "gradient_norm": str(outcome.gradient_norm),
        "images": torch.cat([part.picture for part in parts]).tolist(),
        "timesteps": torch.cat([part.t for part in parts]).tolist(),
        "losses": [str(value) for value in losses.tolist()],
    }
