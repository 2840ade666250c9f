"""One process at a time: a lock of the kernel on an open file or folder, which ends with the process that holds it."""

import logging
from pathlib import Path

__all__ = ["take_turn", "wait_for_turn"]

_log = logging.getLogger(__name__)


def take_turn(handle: int, name: Path) -> bool:
    """Lock what `handle` is open on, until it is closed; False if another process has it locked.

    A file system without locks gets a warning, which calls it `name`, and True.
    """
    from filelock import lock_descriptor  # takes a while to import, and most commands lock nothing

    try:
        return lock_descriptor(handle, blocking=False)
    except OSError as error:
        _log.warning("%s cannot be locked (%s): let only one process work on it at a time", name, error.strerror)
        return True


def wait_for_turn(handle: int, name: Path) -> None:
    """Lock what `handle` is open on, until it is closed, when nobody else has it locked; `name` is for messages."""
    from filelock import lock_descriptor

    if not take_turn(handle, name):
        _log.warning("another process is busy with %s; waiting for it.", name)
        lock_descriptor(handle)
