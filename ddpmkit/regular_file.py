"""Opens regular files only: never a pipe, a socket or a device, which may block or never end."""

import errno
import hashlib
import os
import stat
from io import BufferedReader, FileIO
from pathlib import Path

__all__ = ["append_regular", "fsync_file", "kind_of", "open_regular", "sha256_file"]

_NOT_REGULAR = "it is a pipe, a socket or a device"
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def kind_of(path: Path) -> str | None:
    """Return what is at `path`, such as "a file" or "a link" (which is not followed); None if there is nothing."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    return _KINDS.get(stat.S_IFMT(mode), "a device")


def open_regular(file: Path, *, follow_links: bool) -> BufferedReader:
    """Open a regular file for reading. Raises OSError for anything else."""
    return os.fdopen(_open(file, os.O_RDONLY, follow_links=follow_links), "rb")


def append_regular(file: Path, *, create: bool = True) -> FileIO:
    """Open a regular file for reading, and for writing at its end. Links are not followed.

    Unbuffered, so that an error is raised by the call that writes. Raises OSError.
    """
    flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0)
    return FileIO(_open(file, flags, follow_links=False), "a+")


def fsync_file(file: Path) -> None:
    """Flush a regular file to the disk. Links are not followed. Raises OSError."""
    handle = _open(file, os.O_RDWR, follow_links=False)  # Windows cannot flush a file that is open for reading only
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(file: Path, *, follow_links: bool = True) -> str:
    """Return the SHA-256 of the content of a regular file, in hexadecimal. Raises OSError."""
    with open_regular(file, follow_links=follow_links) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _open(file: Path, flags: int, *, follow_links: bool) -> int:
    # Without O_NONBLOCK, opening a pipe blocks until a process opens its other end. Windows has neither O_NONBLOCK nor
    # O_NOFOLLOW, and opens in text mode unless O_BINARY is set.
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
