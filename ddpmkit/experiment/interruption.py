"""A wish to stop, heard in the middle of work that is no training step.

It does not know who wishes, or what is saved then.
"""

import contextlib
from collections.abc import Callable, Iterator

from ddpmkit.tracking import Onlooker

__all__ = ["Interruptible", "Stopped"]


class Stopped(Exception):
    """Someone asked the run to stop."""


class Interruptible:
    """An onlooker whose `work` ends with Stopped, at the next unit of it, once `stop()` is true."""

    def __init__(self, onlooker: Onlooker, stop: Callable[[], bool]) -> None:
        self._onlooker, self._stop = onlooker, stop

    def remark(self, text: str) -> None:
        """Passed on."""
        self._onlooker.remark(text)

    @contextlib.contextmanager
    def work(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Passed on, unit by unit."""
        with self._onlooker.work(description, total) as advance:

            def advance_or_stop(more: int) -> None:
                advance(more)
                if self._stop():
                    raise Stopped

            yield advance_or_stop
