"""Files that are there whole or not at all, and files of strangers opened with care.

It does not know what is in them.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

__all__ = ["fsync_folder", "open_regular", "write_atomically", "written_atomically"]

_MOST_LETTERS = 48
"""Of a file's name in that of its temporary file: 255 bytes are the most that a name may have."""


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to, which appears at `path` whole, or not at all when the block raises.

    It is written as `.NAME.TOKEN.partial` beside `path`, brought to the disk, and renamed. Any number of processes may
    write the same path at once: the last one wins. Its mode follows the umask. A link at `path` is replaced and never
    followed. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:_MOST_LETTERS]}.{secrets.token_hex(4)}.partial")
    try:
        # "x" creates the file itself: it opens no file of someone else, and follows no link.
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    fsync_folder(path.parent)


def write_atomically(path: Path, content: bytes) -> Path:
    """Write a whole file as `written_atomically` does. Raises OSError; a failed write leaves nothing."""
    with written_atomically(path) as file:
        file.write(content)
    return path


def fsync_folder(folder: Path) -> None:
    """Have the disk hold the names in `folder`."""
    if os.name == "nt":  # Windows opens no folder, and needs no such call
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_regular(file: Path, *, follow_links: bool) -> BufferedReader:
    """Open a file that is one: no pipe and no device, which may never end; no link either, where it may lead anywhere.

    Raises OSError.
    """
    # Without O_NONBLOCK, opening a pipe would wait for a writer. Windows has neither of the two, and reads text.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(file, flags if follow_links else flags | getattr(os, "O_NOFOLLOW", 0))
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    raise OSError(errno.EINVAL, "it is a pipe or a device", str(file))
