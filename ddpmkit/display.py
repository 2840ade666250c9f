"""Displays that show a run to a person: their interface, one that shows nothing, and a wrapper that never raises."""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord, Tracker
from ddpmkit.errors import error_text

__all__ = ["Display", "ProgressDisplay", "SafeDisplay", "SilentDisplay"]

_log = logging.getLogger(__name__)


class ProgressDisplay(Protocol):
    """Shows messages, and the progress of work other than training steps."""

    def message(self, text: str) -> None:
        """Show one line that the user should read."""
        ...

    def progress(self, description: str, total: int) -> contextlib.AbstractContextManager[Callable[[int], None]]:
        """Show `total` units of work while the context is open; call its value with the number of units just done."""
        ...


class Display(Tracker, ProgressDisplay, Protocol):
    """A tracker that shows the run to a person."""


class SilentDisplay:
    """Shows nothing; messages go to the log."""

    def run_started(self, event: RunStarted) -> None:
        """Do nothing."""

    def step(self, event: StepRecord) -> None:
        """Do nothing."""

    def picture(self, event: Picture) -> None:
        """Do nothing."""

    def scores(self, event: Scores) -> None:
        """Do nothing."""

    def run_ended(self, event: RunEnded) -> None:
        """Do nothing."""

    def message(self, text: str) -> None:
        """Log the message."""
        _log.info(text)

    @contextlib.contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Ignore the progress."""
        yield lambda _done: None


class SafeDisplay:
    """Wraps a display: if it raises, a warning names the error, and the run continues without the display."""

    def __init__(self, display: Display) -> None:
        self._display: Display | None = display

    def run_started(self, event: RunStarted) -> None:
        """Forward the event."""
        self._call(lambda display: display.run_started(event))

    def step(self, event: StepRecord) -> None:
        """Forward the event."""
        self._call(lambda display: display.step(event))

    def picture(self, event: Picture) -> None:
        """Forward the event."""
        self._call(lambda display: display.picture(event))

    def scores(self, event: Scores) -> None:
        """Forward the event."""
        self._call(lambda display: display.scores(event))

    def run_ended(self, event: RunEnded) -> None:
        """Forward the event."""
        self._call(lambda display: display.run_ended(event))

    def message(self, text: str) -> None:
        """Forward the message."""
        self._call(lambda display: display.message(text))

    @contextlib.contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Forward the progress; the work itself does not depend on the display."""
        context = self._call(lambda display: display.progress(description, total))
        advance = self._call(lambda _display: context.__enter__()) if context is not None else None
        try:
            yield lambda more: self._call(lambda _display: advance(more)) if advance is not None else None
        finally:
            if advance is not None:
                self._call(lambda _display: context.__exit__(*sys.exc_info()))

    def _call(self, call: Callable[[Display], Any]) -> Any:
        """Return the result of `call`; None if the display is disabled or fails."""
        if self._display is None:
            return None
        try:
            return call(self._display)
        except Exception as error:
            self._display = None
            _log.warning(
                "the display failed with %s; the run continues without it.",
                error_text(error), exc_info=_log.isEnabledFor(logging.DEBUG),
            )  # fmt: skip
            return None
