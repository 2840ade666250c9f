"""Saves a checkpoint: completely, or not at all."""

import shutil
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ddpmkit.atomic_io import fsync_folder
from ddpmkit.checkpoint.manifest import LOCK, MANIFEST, manifest_text
from ddpmkit.checkpoint.names import move_aside
from ddpmkit.checkpoint.opening import Checkpoint, open_checkpoint
from ddpmkit.checkpoint.removal import remove_checkpoint
from ddpmkit.errors import RunFailed
from ddpmkit.regular_file import fsync_file, open_regular, sha256_file

__all__ = ["save_checkpoint"]


def save_checkpoint(parent: Path, step: int, parts: Mapping[str, Mapping[str, Tensor]], lock: Path) -> Checkpoint:
    """Write `parent/step-00000000` from named parts of tensors and a copy of the file `lock`, and verify it.

    Raises RunFailed if the disk fails; then no incomplete checkpoint is left.
    """
    final = parent / f"step-{step:08d}"
    partial = parent / f".{final.name}.partial"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        with open_regular(lock, follow_links=False) as content, (partial / LOCK).open("xb") as copy:
            shutil.copyfileobj(content, copy)
        mode = stat.S_IMODE((partial / LOCK).stat().st_mode)
        flushed = {}
        # Files are hashed and flushed to the disk while the next part is written.
        with ThreadPoolExecutor(2) as flushing:
            for name, tensors in parts.items():
                file = partial / f"{name}.safetensors"
                save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, file)
                # safetensors creates files that only their owner can read; the mode of the lock follows the umask.
                file.chmod(mode)
                flushed[file.name] = flushing.submit(_flush, file)
            flushed[LOCK] = flushing.submit(_flush, partial / LOCK)
            files = {name: flushed[name].result() for name in sorted(flushed)}
        (partial / MANIFEST).write_text(manifest_text(step, files), encoding="utf-8")
        fsync_file(partial / MANIFEST)
        fsync_folder(partial)
        replaced = move_aside(final, "replaced") if final.exists() else None
        partial.rename(final)
        fsync_folder(parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RunFailed(
            f"the checkpoint {final} could not be written: {reason}.",
            remedies=["free some space and run the same command again: it resumes from the previous checkpoint"],
        ) from error
    saved = open_checkpoint(final)
    if replaced is not None:
        remove_checkpoint(replaced)
    return saved


def _flush(file: Path) -> str:
    """Flush a file to the disk; its SHA-256."""
    digest = sha256_file(file, follow_links=False)
    fsync_file(file)
    return digest
