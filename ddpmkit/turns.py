"""One process at a time: a lock of the kernel on an open file or folder, which ends with the process that holds it."""

import logging
from pathlib import Path

__all__ = ["wait_for_turn"]

_log = logging.getLogger(__name__)


def wait_for_turn(handle: int, name: Path) -> None:
    """Lock what `handle` is open on, until it is closed; `name` is what a waiting person reads."""
    from filelock import lock_descriptor  # takes a while to import, and most commands lock nothing

    try:
        if not lock_descriptor(handle, blocking=False):
            _log.warning("another process is busy with %s; waiting for it.", name)
            lock_descriptor(handle)
    except OSError as error:
        _log.warning("%s cannot be locked (%s): let only one process work on it at a time", name, error.strerror)
