"""Converts the state of a trainer to named tensors for a checkpoint, and restores it bit for bit."""

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

_PROGRESS_SHAPES: Mapping[str, tuple[int, ...]] = {
    "loss_sums": (QUARTERS,),
    "loss_counts": (QUARTERS,),
    "skipped": (),
    "detours": (),
}
"""`detours` is the number of rollbacks: the name of `Trainer.rollbacks` in the checkpoints of all versions."""


def state_tensors(trainer: Trainer) -> Parts:
    """Return the parts of a checkpoint: `model`, `optimizer`, `progress`, and one for each average.

    No step may be queued: call `Trainer.settle` before.
    """
    parts = {
        "model": dict(trainer.network.state_dict()),
        # The learning rate and the betas are computed from the recipe and the step.
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
    """Return the parts of the averages of these kinds."""
    return {
        average_part(choice): dict(average.network.state_dict())
        for choice, average in trainer.averages.items()
        if choice.kind in kinds
    }


def part_names(trainer: Trainer) -> list[str]:
    """Return the names of the parts that `restore` needs."""
    return ["model", "optimizer", "progress", *map(average_part, trainer.averages)]


def average_part(choice: WeightsChoice) -> str:
    """Return the name of the part with this average: `ema`, `ema-decay-0.9999`, `ema-sigma_rel-0.05`."""
    return "ema" if choice.kind == "ema" else f"ema-{choice}".replace("=", "-")


def restore(trainer: Trainer, step: int, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Restore the trainer to its state after optimizer step `step`, bit for bit.

    Raises InputError if tensors are missing or belong to another network.
    """
    load_weights(trainer.network, parts["model"])
    for choice, average in trainer.averages.items():
        # An average that is new in the recipe starts at the last weights.
        load_weights(average.network, parts[average_part(choice)] or parts["model"])
    progress = parts["progress"]
    _check_shapes("progress", progress, _PROGRESS_SHAPES)
    trainer.loss_by_quarter.sums.copy_(progress["loss_sums"])
    trainer.loss_by_quarter.counts.copy_(progress["loss_counts"])
    trainer.restart(step, skipped=int(progress["skipped"]), rollbacks=int(progress["detours"]))
    _check_shapes("optimizer", parts["optimizer"], trainer.optimizer.shapes())
    trainer.optimizer.load(parts["optimizer"])


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights into a network. Raises InputError if they belong to another network."""
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
    """Return the name of the first tensor that contains NaN or infinity; None if all values are finite.

    It compares only the largest magnitude of each tensor: one pass, no extra memory, one transfer to the CPU.
    """
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel()}
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
            remedies=["resume from another checkpoint of the run, or start another run with --out DIR"],
        )
