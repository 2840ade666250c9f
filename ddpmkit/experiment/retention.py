"""Decides which checkpoints a run removes, and checks that the disk has space for the others."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ddpmkit.errors import InputError
from ddpmkit.recipe import TrainSection

__all__ = ["check_space", "checkpoints_to_remove"]


def checkpoints_to_remove(
    steps: Sequence[int],
    settings: TrainSection,
    best: int | None,
    is_checkpoint_step: Callable[[int], bool] = lambda _step: True,
) -> list[int]:
    """Return the checkpoints at `steps` (ascending) that the recipe does not keep.

    With on_nonfinite = "rollback", `keep_last` counts only the checkpoints that an uninterrupted run saves. The newest
    one is always kept.
    """
    if settings.keep_last == 0:
        return []
    candidates = list(filter(is_checkpoint_step, steps)) if settings.on_nonfinite == "rollback" else steps
    kept = {*candidates[-settings.keep_last :], *steps[-1:], best}
    return [
        step for step in steps if step not in kept and not (settings.keep_every and step % settings.keep_every == 0)
    ]


def check_space(folder: Path, parameters: int, settings: TrainSection) -> str | None:
    """Return a warning if the disk may become full; None if there is enough space.

    Raises InputError if not even two checkpoints fit: the last one and the next.
    """
    widths = len(settings.ema_sigma_rels)
    # float32: weights, two Adam moments, and each average.
    checkpoint_bytes = 4 * parameters * (3 + bool(settings.ema_decay) + len(settings.ema_decays) + widths)
    free = shutil.disk_usage(folder).free
    if free < 2 * checkpoint_bytes:
        raise InputError(
            f"{folder.resolve()} has {_megabytes(free)} free; a checkpoint takes {_megabytes(checkpoint_bytes)}, and "
            "two must fit.",
            remedies=["free some space", "use --out DIR to choose another folder"],
        )
    every = settings.checkpoint_every or settings.steps
    needed = checkpoint_bytes * (settings.keep_last + 1 if settings.keep_last else settings.steps // every + 1)
    if widths and settings.ema_snapshot_every:
        needed += 4 * parameters * widths * (settings.steps // settings.ema_snapshot_every)
    if free < needed:
        return f"checkpoints may take {_megabytes(needed)}, and {_megabytes(free)} are free in {folder}"
    return None


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
