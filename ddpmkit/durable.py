"""Files that are there whole or not at all, and files of strangers opened with care.

It does not know what is in them.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

__all__ = ["fsync_folder", "open_regular", "write_atomically"]


def write_atomically(path: Path, content: bytes) -> Path:
    """Write to a temporary name beside `path`, fsync, rename. Raises OSError; a failed write leaves nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)
    return path


def fsync_folder(folder: Path) -> None:
    """Have the disk hold the names in `folder`."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_regular(file: Path, *, follow_links: bool) -> BufferedReader:
    """Open a file that is one: no pipe and no device, which may never end; no link either, where it may lead anywhere.

    Raises OSError.
    """
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | (0 if follow_links else os.O_NOFOLLOW))
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    raise OSError(errno.EINVAL, "it is a pipe or a device", str(file))
