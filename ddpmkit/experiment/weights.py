"""Selects the weights to generate images with: those of the last step, a stored average, or a post-hoc EMA.

The same choice works for a run in progress (`TrainerWeights`) and for a checkpoint (`CheckpointWeights`).
"""

import copy
from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

from ddpmkit.checkpoint import Checkpoint
from ddpmkit.errors import InputError
from ddpmkit.experiment.ema_snapshots import Snapshots
from ddpmkit.recipe import TrainSection, WeightsChoice
from ddpmkit.training.state import average_part, load_weights
from ddpmkit.training.trainer import Trainer

__all__ = ["CheckpointWeights", "TrainerWeights", "WeightsSource", "select_network"]

RAW = WeightsChoice("raw")


class WeightsSource(Protocol):
    """The weights and the averages after one training step."""

    @property
    def step(self) -> int:
        """The optimizer step."""
        ...

    @property
    def train(self) -> TrainSection:
        """The recipe's `[train]`: which averages are stored."""
        ...

    def network(self, choice: WeightsChoice) -> nn.Module | None:
        """Return the network with these weights; None if this source does not have the average."""
        ...

    def power_averages(self) -> Mapping[float, Mapping[str, Tensor]]:
        """Return the averages of `train.ema_sigma_rels`, by width."""
        ...

    def copy(self) -> nn.Module:
        """Return a copy of the network, which the caller may change."""
        ...


class TrainerWeights:
    """Weights of a run in progress. The trainer will change these networks."""

    def __init__(self, trainer: Trainer, wait_for_snapshots: Callable[[], object]) -> None:
        """`wait_for_snapshots` returns once all snapshots are on disk."""
        self._trainer, self._wait_for_snapshots = trainer, wait_for_snapshots

    @property
    def step(self) -> int:
        """The step of the trainer."""
        return self._trainer.step

    @property
    def train(self) -> TrainSection:
        """The settings of the trainer."""
        return self._trainer.settings

    def network(self, choice: WeightsChoice) -> nn.Module | None:
        """Return the trainer's network or average itself, not a copy."""
        if choice == RAW:
            return self._trainer.network
        average = self._trainer.averages.get(choice)
        return average.network if average is not None else None

    def power_averages(self) -> Mapping[float, Mapping[str, Tensor]]:
        """Return the current averages. Waits until all earlier snapshots are on disk."""
        self._wait_for_snapshots()
        return {
            choice.value: average.network.state_dict()
            for choice, average in self._trainer.averages.items()
            if choice.kind == "sigma_rel"
        }

    def copy(self) -> nn.Module:
        """Return a copy of the trainer's network."""
        return copy.deepcopy(self._trainer.network)


class CheckpointWeights:
    """Weights at a checkpoint. Every network is a copy, which later calls do not change."""

    def __init__(self, checkpoint: Checkpoint, train: TrainSection, network: nn.Module) -> None:
        """`network` has the architecture of the run; its weights are not used."""
        self._checkpoint, self._network = checkpoint, network
        self.train = train

    @property
    def step(self) -> int:
        """The step of the checkpoint."""
        return self._checkpoint.step

    def network(self, choice: WeightsChoice) -> nn.Module | None:
        """Return a network for inference. Raises InputError for weights of another architecture."""
        part = "model" if choice == RAW else average_part(choice)
        tensors = self._checkpoint.tensors(part)
        if not tensors and choice != RAW:
            return None
        network = self.copy()
        load_weights(network, tensors)
        return network

    def power_averages(self) -> Mapping[float, Mapping[str, Tensor]]:
        """Return the stored averages, by width. Raises InputError for averages of another architecture."""
        widths = self.train.ema_sigma_rels
        averages = {
            width: self._checkpoint.tensors(average_part(WeightsChoice("sigma_rel", width))) for width in widths
        }
        network = self.copy()
        for tensors in averages.values():
            load_weights(network, tensors)
        return averages

    def copy(self) -> nn.Module:
        """Return a copy for inference."""
        return copy.deepcopy(self._network).eval().requires_grad_(False)


def select_network(choice: WeightsChoice, source: WeightsSource, snapshots: Snapshots) -> nn.Module:
    """Return the network of `source` with the chosen weights.

    If the run stores no average, return the last weights. Raises InputError for an average that the run does not store,
    or a width that cannot be mixed from its snapshots.
    """
    stored = _stored_choice(choice, source.train)
    if (network := source.network(stored)) is not None:
        return network
    if stored.kind == "sigma_rel":
        network = source.copy()
        load_weights(network, snapshots.posthoc_average(stored.value, source.step, source.power_averages(), network))
        return network
    last = source.network(RAW)
    assert last is not None
    return last


def _stored_choice(choice: WeightsChoice, train: TrainSection) -> WeightsChoice:
    """Return the choice by the name under which a run stores it. Raises InputError if the run does not store it."""
    stored = train.stored_average(choice)
    if stored is not None:
        return stored
    names = [str(WeightsChoice("decay", decay)) for decay in (train.ema_decay, *train.ema_decays) if decay]
    names += [str(WeightsChoice("sigma_rel", width)) for width in train.ema_sigma_rels]
    key = "ema_decays" if choice.kind == "decay" else "ema_sigma_rels"
    raise InputError(
        f"weights {choice} are not available: this run stores no matching average.",
        remedies=[f"use one of {', '.join(['raw', *names])}", f"set train.{key} in a new run to store it"],
    )
