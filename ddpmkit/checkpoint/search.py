"""Finds the newest intact checkpoint of a run."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from ddpmkit.checkpoint.manifest import DamagedCheckpoint
from ddpmkit.checkpoint.names import (
    checkpoint_folders,
    folders_with_replaced,
    move_aside,
    restore_replaced,
    step_of,
)
from ddpmkit.checkpoint.opening import Checkpoint, open_checkpoint
from ddpmkit.errors import InputError

__all__ = ["newest_checkpoint", "resumable_checkpoint"]

_MOST_ATTEMPTS = 100
_log = logging.getLogger(__name__)


def newest_checkpoint(parent: Path) -> Checkpoint | None:
    """The newest intact checkpoint, with its content; None if there is no checkpoint. Changes nothing.

    Another process may save and remove checkpoints at the same time: if one is removed or replaced while it is read,
    the search starts again. Raises InputError if there are checkpoints but none is intact.
    """
    for _ in range(_MOST_ATTEMPTS):
        damaged: list[DamagedCheckpoint] = []
        for folder in folders_with_replaced(parent):
            before, found = _identity(folder), None
            try:
                found = open_checkpoint(folder, load=True)
            except DamagedCheckpoint as error:
                damaged.append(error)
            if before is None or _identity(folder) != before:
                break
            if found is not None:
                for problem in damaged:
                    _log.warning("%s It is skipped.", problem.message)
                return found
        else:
            if damaged:
                raise _no_intact_checkpoint(parent, damaged)
            return None
    raise InputError(f"the checkpoints in {parent} change faster than they can be read.", remedies=["try again"])


def resumable_checkpoint(parent: Path, wanted: Callable[[int], bool] = lambda _step: True) -> Checkpoint | None:
    """The newest intact checkpoint among the steps for which `wanted` is true; None if there is no checkpoint.

    Moves damaged checkpoints aside and logs a warning, so only the process that has locked the run folder may call it.
    Raises InputError if there are checkpoints but none is intact.
    """
    restore_replaced(parent)
    damaged = []
    for folder in checkpoint_folders(parent):
        if wanted(step_of(folder)):
            try:
                return open_checkpoint(folder)
            except DamagedCheckpoint as error:
                damaged.append(error)
                aside = move_aside(folder, "damaged")
                _log.warning("%s It was moved to %s.", error.message, aside.name)
    if damaged:
        raise _no_intact_checkpoint(parent, damaged)
    return None


def _no_intact_checkpoint(parent: Path, damaged: Sequence[DamagedCheckpoint]) -> InputError:
    return InputError(
        f"none of the {len(damaged)} checkpoints in {parent} is intact. {damaged[0].message}",
        remedies=["use --out DIR to start a new run in another folder", f"remove {parent.parent} to start over"],
    )


def _identity(folder: Path) -> tuple[int, int] | None:
    """A value that stays the same if a folder is renamed, and differs for its successor; None if it does not exist."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
