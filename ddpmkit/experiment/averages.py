"""The weights that were asked for: kept in a checkpoint, or mixed from the snapshots of averages beside it.

It does not know what is drawn with them.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ddpmkit.checkpoint import (
    Checkpoint,
    DamagedCheckpoint,
    checkpoint_folders,
    open_checkpoint,
    remove_checkpoint,
    step_of,
)
from ddpmkit.errors import InputError
from ddpmkit.recipe import TrainSection, WeightsChoice
from ddpmkit.training.posthoc_ema import Profile, mixture
from ddpmkit.training.state import average_part, load_weights

__all__ = ["forget_snapshots_after", "kept_average", "reconstructed", "saved_weights"]

_FARTHEST = 0.1
"""Relative error of a profile beyond which it is not the one that was asked for."""

_log = logging.getLogger(__name__)

State = Mapping[str, Tensor]
_Kept = tuple[Profile, State | Checkpoint]


def saved_weights(
    weights: WeightsChoice, checkpoint: Checkpoint, snapshots: Path, train: TrainSection, network: nn.Module
) -> State:
    """The weights at a checkpoint of `network`, whose own are lost; without any average those of the last step.

    Raises InputError for an average that was not kept, or of a width that the snapshots do not give.
    """
    kept = kept_average(weights, train)
    if kept.kind == "raw":
        return checkpoint.tensors("model")
    tensors = checkpoint.tensors(average_part(kept))
    if tensors or kept.kind != "sigma_rel":
        return tensors or checkpoint.tensors("model")
    current = {
        width: checkpoint.tensors(average_part(WeightsChoice("sigma_rel", width))) for width in train.ema_sigma_rels
    }
    for state in current.values():
        load_weights(network, state)  # refuses those of another network
    return reconstructed(kept.value, checkpoint.step, current, snapshots, network)


def kept_average(weights: WeightsChoice, train: TrainSection) -> WeightsChoice:
    """The weights by the name that they are kept under. Raises InputError where nothing is kept to have them from."""
    kept = train.stored_average(weights)
    if kept is not None:
        return kept
    names = [str(WeightsChoice("decay", decay)) for decay in (train.ema_decay, *train.ema_decays) if decay]
    names += [str(WeightsChoice("sigma_rel", width)) for width in train.ema_sigma_rels]
    key = "ema_decays" if weights.kind == "decay" else "ema_sigma_rels"
    raise InputError(
        f"this run keeps nothing to have {weights} from.",
        remedies=[f"one of {', '.join(['raw', *names])}", f"a run with train.{key} keeps it"],
    )


def reconstructed(
    sigma_rel: float, step: int, current: Mapping[float, State], snapshots: Path, network: nn.Module
) -> State:
    """The average of any width at `step`, from those that are kept there (`current`, by width) and from snapshots.

    Karras et al. (2024), section 3.2. Parameters of `network` alone are mixed; all else is as in `current`. Raises
    InputError where the mixture would be far from that width.
    """
    here: list[_Kept] = [(Profile(step, width), tensors) for width, tensors in current.items()]
    before: list[_Kept] = [
        (Profile(snapshot.step, width), snapshot)
        for snapshot in _snapshots_before(step, snapshots)
        for width in current
        if snapshot.has(average_part(WeightsChoice("sigma_rel", width)))
    ]
    mixed = mixture([profile for profile, _ in [*here, *before]], Profile(step, sigma_rel))
    if mixed.error > _FARTHEST:
        raise InputError(
            f"an average of sigma_rel = {sigma_rel} at step {step} cannot be had from those of "
            f"{', '.join(map(str, current))} there and {len(before)} of earlier steps: it would be "
            f"{mixed.error:.0%} off.",
            remedies=[
                "a width nearer to those that are kept",
                "a smaller train.ema_snapshot_every leaves more snapshots to have it from",
            ],
        )
    latest = next(iter(current.values()))
    names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
    # Coefficients of either sign cancel, which float32 would show.
    sums = {name: torch.zeros(latest[name].shape, dtype=torch.float64) for name in names}
    for coefficient, (profile, source) in zip(mixed.coefficients, [*here, *before], strict=True):
        for name, value in _tensors(source, profile, latest).items():
            if name in sums:
                sums[name].add_(value.detach().cpu().double(), alpha=float(coefficient))
    return {**latest, **{name: value.to(latest[name].dtype) for name, value in sums.items()}}


def forget_snapshots_after(step: int, snapshots: Path) -> None:
    """Drop those of later steps: a run that goes on from `step` will take them again."""
    for folder in checkpoint_folders(snapshots):
        if step_of(folder) > step:
            remove_checkpoint(folder)


def _snapshots_before(step: int, snapshots: Path) -> Iterator[Checkpoint]:
    for folder in checkpoint_folders(snapshots):
        if step_of(folder) < step:
            try:
                yield open_checkpoint(folder, load=True)
            except DamagedCheckpoint as error:
                _log.warning("%s It is left out.", error.message)


def _tensors(source: State | Checkpoint, profile: Profile, like: State) -> State:
    """Raises InputError when they are those of another network."""
    if not isinstance(source, Checkpoint):
        return source
    tensors = source.tensors(average_part(WeightsChoice("sigma_rel", profile.sigma_rel)))
    if {name: value.shape for name, value in tensors.items()} != {name: value.shape for name, value in like.items()}:
        raise InputError(f"the snapshot {source.path} is of another network.", remedies=[f"remove {source.path}"])
    return tensors
