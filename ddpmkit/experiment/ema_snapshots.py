"""Reads the EMA snapshots of a run, and mixes post-hoc averages of the weights from them.

Karras et al. (2024), "Analyzing and Improving the Training Dynamics of Diffusion Models", section 3.2
(https://arxiv.org/abs/2312.02696).
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from ddpmkit.recipe import WeightsChoice
from ddpmkit.training.posthoc_ema import WeightProfile, mixture
from ddpmkit.training.state import average_part

__all__ = ["Snapshots"]

_LARGEST_ERROR = 0.1
"""Largest accepted relative error of a mixed profile."""

_log = logging.getLogger(__name__)

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Snapshots:
    """The folder of a run's snapshots."""

    folder: Path

    def remove_after(self, step: int) -> None:
        """Remove the snapshots of later steps: a run that resumes at `step` writes them again."""
        for path in checkpoint_folders(self.folder):
            if step_of(path) > step:
                remove_checkpoint(path)

    def posthoc_average(self, sigma_rel: float, step: int, current: Mapping[float, State], network: nn.Module) -> State:
        """Return the average of width `sigma_rel` at `step`.

        It is mixed from the averages at this step (`current`, by width) and from earlier snapshots.

        Only the parameters of `network` are mixed; buffers are as in `current`. Raises InputError if the mixture would
        be far from the requested width, or if a snapshot has other tensors.
        """
        latest: list[tuple[WeightProfile, State | Checkpoint]] = [
            (WeightProfile(step, width), tensors) for width, tensors in current.items()
        ]
        earlier: list[tuple[WeightProfile, State | Checkpoint]] = [
            (WeightProfile(snapshot.step, width), snapshot)
            for snapshot in self._before(step)
            for width in current
            if snapshot.has(_part(width))
        ]
        mixed = mixture([profile for profile, _ in [*latest, *earlier]], WeightProfile(step, sigma_rel))
        if mixed.error > _LARGEST_ERROR:
            raise InputError(
                f"an average of sigma_rel = {sigma_rel} at step {step} cannot be made from the stored widths "
                f"{', '.join(map(str, current))} and {len(earlier)} earlier snapshots: its error would be "
                f"{mixed.error:.0%}.",
                remedies=[
                    "use a width nearer to the stored ones",
                    "lower train.ema_snapshot_every in a new run to store more snapshots",
                ],
            )
        like = next(iter(current.values()))
        names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
        # The coefficients have both signs. In float32, their sum would lose precision.
        sums = {name: torch.zeros(like[name].shape, dtype=torch.float64) for name in names}
        for coefficient, (profile, source) in zip(mixed.coefficients, [*latest, *earlier], strict=True):
            for name, value in _tensors(source, profile, like).items():
                if name in sums:
                    sums[name].add_(value.detach().cpu().double(), alpha=float(coefficient))
        return {**like, **{name: value.to(like[name].dtype) for name, value in sums.items()}}

    def _before(self, step: int) -> Iterator[Checkpoint]:
        for path in checkpoint_folders(self.folder):
            if 0 < step_of(path) < step:  # earlier versions wrote one of step 0 after a rollback
                try:
                    yield open_checkpoint(path, load=True)
                except DamagedCheckpoint as error:
                    _log.warning("%s It is not used.", error.message)


def _tensors(source: State | Checkpoint, profile: WeightProfile, like: State) -> State:
    """Return the tensors of `source`. Raises InputError if they belong to another network."""
    if not isinstance(source, Checkpoint):
        return source
    tensors = source.tensors(_part(profile.sigma_rel))
    if {name: value.shape for name, value in tensors.items()} != {name: value.shape for name, value in like.items()}:
        raise InputError(f"the snapshot {source.path} belongs to another network.", remedies=[f"remove {source.path}"])
    return tensors


def _part(width: float) -> str:
    return average_part(WeightsChoice("sigma_rel", width))
