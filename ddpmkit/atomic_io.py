"""Writes files atomically: a file appears complete at its final path, or not at all."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ddpmkit.file_lock import is_at

__all__ = ["atomic_write", "atomic_write_bytes", "fsync_folder"]

_MOST_LETTERS = 48
"""How much of a file's name its temporary file has: a name may have 255 bytes at most."""
_PARTIAL = re.compile(r"\..+\.[0-9a-f]{8}\.partial", re.DOTALL)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for writing, which replaces `path` when the block ends. If the block raises, `path` is unchanged.

    The file is written as `.NAME.TOKEN.partial` in the folder of `path`, flushed to the disk, and renamed. If several
    processes write the same path, the last one wins. The file mode follows the umask. A link at `path` is replaced,
    not followed. Temporary files that killed processes left in the folder are deleted first. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    file, partial = _open_partial(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if os.name == "nt":  # Windows renames no open file
                file.close()
            partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    fsync_folder(path.parent)


def atomic_write_bytes(path: Path, content: bytes) -> Path:
    """Write a file as `atomic_write` does, and return its path. Raises OSError."""
    with atomic_write(path) as file:
        file.write(content)
    return path


def fsync_folder(folder: Path) -> None:
    """Flush the names of the files in `folder` to the disk."""
    if os.name == "nt":  # Windows cannot open a folder, and does not need this
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_abandoned(folder: Path) -> None:
    """Delete temporary files that are not locked: every process, on any machine, locks those that it writes.

    On a file system without locks they stay.
    """
    from filelock import lock_descriptor  # takes a while to import, and most commands write nothing

    for partial in folder.glob(".*.partial"):
        if _PARTIAL.fullmatch(partial.name):
            with contextlib.suppress(OSError):
                # Open for writing: NFS gives an exclusive lock only on such a file.
                handle = os.open(partial, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
                try:
                    if lock_descriptor(handle, blocking=False):
                        partial.unlink()
                finally:
                    os.close(handle)


def _open_partial(path: Path) -> tuple[BinaryIO, Path]:
    """Create a temporary file for `path`, locked until it is closed."""
    from filelock import lock_descriptor

    while True:
        partial = path.with_name(f".{path.name[:_MOST_LETTERS]}.{secrets.token_hex(4)}.partial")
        # "x" creates the file: it never opens an existing file or follows a link.
        file = partial.open("xb")
        try:
            lock_descriptor(file.fileno())
        except OSError:
            return file, partial  # without locks, no process removes it either
        if is_at(file.fileno(), partial):
            return file, partial
        file.close()  # another process removed it as abandoned before it was locked
