"""All that a trainer needs to go on, as named tensors and back.

It does not know how tensors are kept.
"""

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from ddpmkit.errors import InputError
from ddpmkit.recipe import WeightsChoice
from ddpmkit.training.loss_by_quarter import QUARTERS
from ddpmkit.training.trainer import Trainer

__all__ = [
    "average_part",
    "average_tensors",
    "first_not_finite",
    "load_weights",
    "part_names",
    "restore",
    "state_tensors",
]

Parts = dict[str, dict[str, Tensor]]

_SUMS, _COUNTERS = ("loss_sums", "loss_counts"), ("skipped", "detours")


def state_tensors(trainer: Trainer) -> Parts:
    """The parts of a checkpoint: `model`, `optimizer`, `progress`, and one for each average, by `average_part`."""
    parts = {
        "model": dict(trainer.network.state_dict()),
        # Learning rate and betas are functions of the recipe and of the step.
        "optimizer": trainer.optimizer.tensors(),
        "progress": {
            "loss_sums": trainer.loss_by_quarter.sums,
            "loss_counts": trainer.loss_by_quarter.counts,
            "skipped": torch.tensor(trainer.skipped),
            "detours": torch.tensor(trainer.rollbacks),
        },
    }
    return parts | average_tensors(trainer)


def average_tensors(trainer: Trainer, kinds: Collection[str] = ("ema", "decay", "sigma_rel")) -> Parts:
    """The parts of the averages of these kinds."""
    return {
        average_part(weights): dict(average.network.state_dict())
        for weights, average in trainer.averages.items()
        if weights.kind in kinds
    }


def part_names(trainer: Trainer) -> list[str]:
    """Of the parts that `restore` asks for."""
    return ["model", "optimizer", "progress", *map(average_part, trainer.averages)]


def average_part(weights: WeightsChoice) -> str:
    """The part of a checkpoint with these averages: `ema`, `ema-decay-0.9999`, `ema-sigma_rel-0.05`."""
    return "ema" if weights.kind == "ema" else f"ema-{weights}".replace("=", "-")


def restore(trainer: Trainer, step: int, parts: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """Put the trainer where it was after optimizer step `step`, bit for bit.

    Returns the weights that Muon moves, or leaves to Adam, only because it did so when the run began. Raises InputError
    when the tensors are those of another network, or when some are missing.
    """
    load_weights(trainer.network, parts["model"])
    for weights, average in trainer.averages.items():
        # A run that kept no such average so far begins one at its weights.
        load_weights(average.network, parts[average_part(weights)] or parts["model"])
    progress = parts["progress"]
    _check_shapes("progress", progress, {**dict.fromkeys(_SUMS, (QUARTERS,)), **dict.fromkeys(_COUNTERS, ())})
    trainer.loss_by_quarter.sums.copy_(progress["loss_sums"])
    trainer.loss_by_quarter.counts.copy_(progress["loss_counts"])
    trainer.skipped, trainer.rollbacks = int(progress["skipped"]), int(progress["detours"])
    trainer.step = step
    as_before = trainer.optimizer.divide_as(parts["optimizer"])
    # There are no moments before the first step.
    _check_shapes("optimizer", parts["optimizer"], trainer.optimizer.shapes() if step > trainer.skipped else {})
    trainer.optimizer.load(parts["optimizer"])
    return as_before


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a network these weights. Raises InputError when they are those of another one."""
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        differences = [line.strip() for line in str(error).splitlines()[1:]]
        raise InputError(
            f"the weights of the checkpoint do not fit the network; the first of {len(differences)} differences: "
            f"{differences[0]}",
            remedies=["use the version of the backbone's plugin that the run was trained with: its lock file names it"],
        ) from error


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity; None if all are finite.

    The largest magnitude of each tensor decides: that takes one pass, no memory, and one transfer to the CPU.
    """
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floating:
        return None
    largest = torch.stack(torch._foreach_norm(list(floating.values()), math.inf))
    return next((name for name, fine in zip(floating, torch.isfinite(largest).tolist(), strict=True) if not fine), None)


def _check_shapes(part: str, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wrong := sorted(name for name in {**found, **expected} if found.get(name) != expected.get(name)):
        name = wrong[0]
        raise InputError(
            f"the {part} part of the checkpoint does not fit the run; the first of {len(wrong)} differences: "
            f"{name} has shape {found.get(name, 'none: it is missing')}, and should have {expected.get(name, 'none')}.",
            remedies=["go on from another checkpoint of the run, or with --out DIR from the start"],
        )
