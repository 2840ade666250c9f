"""Advisory locks on open files and folders. The kernel releases a lock when the process that holds it ends."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["is_at", "lock_file", "try_lock", "wait_for_lock"]

# filelock is imported inside functions: it takes a while, and most commands lock nothing.

_log = logging.getLogger(__name__)


def try_lock(handle: int, name: Path) -> bool:
    """Lock the open file `handle` until it is closed. Return False if another process has locked it.

    On a file system without locks, log a warning about `name` and return True.
    """
    from filelock import lock_descriptor

    try:
        return lock_descriptor(handle, blocking=False)
    except OSError as error:
        _log.warning("%s cannot be locked (%s): use it in only one process at a time", name, error.strerror)
        return True


def wait_for_lock(handle: int, name: Path) -> None:
    """Lock the open file `handle` until it is closed, after other processes have released it.

    `name` is shown in the warnings that it waits, or that the file system has no locks.
    """
    from filelock import lock_descriptor

    if not try_lock(handle, name):
        _log.warning("another process is using %s; waiting for it.", name)
        lock_descriptor(handle)


def is_at(handle: int, path: Path) -> bool:
    """Return whether `path` is still the open file `handle`: another process may rename, replace or remove it."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def lock_file(path: Path, name: Path) -> Iterator[None]:
    """Create `path`, lock it during the block, and remove it. `name` is shown in warnings, as in `wait_for_lock`."""
    while True:
        with path.open("ab") as file:
            wait_for_lock(file.fileno(), name)
            if not is_at(file.fileno(), path):
                continue  # the process that had the lock removed this file
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # Windows removes no open file
                    path.unlink()
            return
