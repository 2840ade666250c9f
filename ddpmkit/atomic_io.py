"""Files that are there whole or not at all, and files of strangers opened with care.

It does not know what is in them.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO

__all__ = ["append_regular", "fsync_file", "fsync_folder", "open_regular", "write_atomically", "written_atomically"]

_MOST_LETTERS = 48
"""Of a file's name in that of its temporary file: 255 bytes are the most that a name may have."""
_PARTIAL = re.compile(r"\..+\.[0-9a-f]{8}\.partial", re.DOTALL)

_NOT_REGULAR = "it is a pipe, a socket or a device"


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to, which appears at `path` whole, or not at all when the block raises.

    It is written as `.NAME.TOKEN.partial` beside `path`, brought to the disk, and renamed. Any number of processes may
    write the same path at once: the last one wins. Its mode follows the umask. A link at `path` is replaced and never
    followed. What processes that were killed left of their own temporary files in the folder is deleted first. Raises
    OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_partials(path.parent)
    file, partial = _new_partial(path)
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


def _clear_partials(folder: Path) -> None:
    """Delete temporary files that no living process writes: whoever writes one, on whatever machine, has it locked.

    On a file system without locks they stay.
    """
    from filelock import lock_descriptor

    for partial in folder.glob(".*.partial"):
        if _PARTIAL.fullmatch(partial.name):
            with contextlib.suppress(OSError):
                # Not for reading alone: NFS gives an exclusive lock only to those who may write.
                handle = os.open(partial, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
                try:
                    if lock_descriptor(handle, blocking=False):
                        partial.unlink()
                finally:
                    os.close(handle)


def _new_partial(path: Path) -> tuple[BinaryIO, Path]:
    """A temporary file for `path`, locked for as long as it is open."""
    from filelock import lock_descriptor  # takes a while to import, and most commands write nothing

    while True:
        partial = path.with_name(f".{path.name[:_MOST_LETTERS]}.{secrets.token_hex(4)}.partial")
        # "x" creates the file itself: it opens no file of someone else, and follows no link.
        file = partial.open("xb")
        try:
            lock_descriptor(file.fileno())
        except OSError:
            return file, partial  # no locks here, so that nobody clears it either
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), partial.stat()):
                return file, partial
        file.close()  # between the two lines above, another process took it for one that was left behind


def write_atomically(path: Path, content: bytes) -> Path:
    """Write a whole file as `written_atomically` does. Raises OSError; a failed write leaves nothing."""
    with written_atomically(path) as file:
        file.write(content)
    return path


def fsync_file(file: Path) -> None:
    """Write a regular file through to the disk. Raises OSError."""
    handle = _opened(file, os.O_RDWR, follow_links=False)  # Windows syncs no file that is open for reading alone
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
    return os.fdopen(_opened(file, os.O_RDONLY, follow_links=follow_links), "rb")


def append_regular(file: Path, *, create: bool = True) -> FileIO:
    """Open a regular file to read it and to write at its end; create it if it does not exist. A link is refused.

    Unbuffered, so that the call that writes also raises the error. Raises OSError.
    """
    flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0)
    return FileIO(_opened(file, flags, follow_links=False), "a+")


def _opened(file: Path, flags: int, *, follow_links: bool) -> int:
    """A descriptor of a regular file. Raises OSError for anything else."""
    # Without O_NONBLOCK, opening a pipe would wait for a process at its other end. Windows has neither of the two, and
    # reads text unless O_BINARY is set.
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    flags |= 0 if follow_links else getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(file, flags, 0o666)
    except OSError as error:
        if not follow_links and error.errno in (errno.ELOOP, errno.EMLINK) and file.is_symlink():
            raise OSError(error.errno, "it is a link", str(file)) from error
        if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):
            raise OSError(error.errno, _NOT_REGULAR, str(file)) from error
        raise
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    raise OSError(errno.EINVAL, _NOT_REGULAR, str(file))
