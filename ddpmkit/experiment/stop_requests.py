"""Stops the work between training steps (sampling, evaluation) when a stop was requested."""

import contextlib
from collections.abc import Callable, Iterator

from ddpmkit.display import ProgressDisplay

__all__ = ["Interruptible", "Stopped"]


class Stopped(Exception):
    """Raised to end the work of a run, because a stop was requested."""


class Interruptible:
    """A display whose `progress` raises Stopped at the next progress update after `stop()` is true."""

    def __init__(self, display: ProgressDisplay, stop: Callable[[], bool]) -> None:
        self._display, self._stop = display, stop

    def message(self, text: str) -> None:
        """Forward the message."""
        self._display.message(text)

    @contextlib.contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Forward the progress, unit by unit."""
        with self._display.progress(description, total) as advance:

            def advance_or_stop(more: int) -> None:
                advance(more)
                if self._stop():
                    raise Stopped

            yield advance_or_stop
