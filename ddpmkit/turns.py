"""One process at a time: a lock of the kernel on an open file or folder, which ends with the process that holds it.

It does not know what the holder does.
"""

import fcntl
import logging
from pathlib import Path

__all__ = ["wait_for_turn"]

_log = logging.getLogger(__name__)


def wait_for_turn(handle: int, name: Path) -> None:
    """Lock what `handle` is open on, until it is closed; `name` is what a waiting person reads."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _log.warning("another process is busy with %s; waiting for it.", name)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        # Some network file systems know no locks: there, one process at a time is the person's affair.
        _log.debug("%s cannot be locked", name, exc_info=True)
