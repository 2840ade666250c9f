"""Removes checkpoints, and the leftovers of killed processes."""

import contextlib
import logging
import shutil
import stat
from pathlib import Path

from ddpmkit.checkpoint.manifest import LOCK, MANIFEST
from ddpmkit.checkpoint.names import move_aside, restore_replaced
from ddpmkit.checkpoint.opening import open_checkpoint
from ddpmkit.errors import InputError

__all__ = ["clear_leftovers", "remove_checkpoint"]

_log = logging.getLogger(__name__)


def remove_checkpoint(folder: Path) -> None:
    """Delete a checkpoint: it is renamed first, so that a partly deleted one is never taken for a checkpoint.

    A folder with a file that `save_checkpoint` does not write is renamed and not deleted.
    """
    if not stat.S_ISDIR(folder.lstat().st_mode) or not all(map(_is_of_checkpoint, folder.iterdir())):
        kept = move_aside(folder, "kept")
        _log.warning(
            "%s contains other files too: it was not removed, but renamed to %s.",
            folder,
            kept.name,
        )
        return
    removed = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(removed, ignore_errors=True)
    folder.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def clear_leftovers(parent: Path) -> None:
    """Delete partly written, partly deleted and replaced checkpoints that a killed process left.

    Only the process that has locked the run folder may call it.
    """
    for leftover in [*parent.glob(".step-*.partial"), *parent.glob(".step-*.removed")]:
        shutil.rmtree(leftover, ignore_errors=True)
    restore_replaced(parent)
    for replaced in parent.glob("step-*.replaced*"):
        # If the new checkpoint is damaged, the replaced one is kept.
        with contextlib.suppress(InputError):
            open_checkpoint(replaced.with_suffix(""))
            remove_checkpoint(replaced)


def _is_of_checkpoint(file: Path) -> bool:
    has_its_name = file.name in (MANIFEST, LOCK) or file.suffix == ".safetensors"
    return has_its_name and stat.S_ISREG(file.lstat().st_mode)
