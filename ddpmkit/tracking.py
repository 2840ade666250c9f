"""Telling everyone who wants to know: trackers and the display.

One that raises is named and switched off; the run goes on. It does not know what the listeners do with an event.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord, Tracker

__all__ = ["Audience", "Display", "Onlooker", "Quiet"]

_log = logging.getLogger(__name__)


class Onlooker(Protocol):
    """Someone who is shown remarks, and work that is no training step."""

    def remark(self, text: str) -> None:
        """One line that the person should read."""
        ...

    def work(self, description: str, total: int) -> contextlib.AbstractContextManager[Callable[[int], None]]:
        """Show `total` units of work; the context's value is called with how many more are done."""
        ...


class Display(Tracker, Onlooker, Protocol):
    """A tracker in front of a person."""


class Quiet:
    """A display for programs: remarks go to the log, the rest nowhere."""

    def run_started(self, event: RunStarted) -> None:
        """Nothing."""

    def step(self, event: StepRecord) -> None:
        """Nothing."""

    def picture(self, event: Picture) -> None:
        """Nothing."""

    def scores(self, event: Scores) -> None:
        """Nothing."""

    def run_ended(self, event: RunEnded) -> None:
        """Nothing."""

    def remark(self, text: str) -> None:
        """Logged."""
        _log.info(text)

    @contextlib.contextmanager
    def work(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Nobody watches."""
        yield lambda _done: None


class Audience:
    """All trackers of a run, told in order. Each is known by the name that a recipe gives it."""

    def __init__(self, trackers: Sequence[tuple[str, Tracker]]) -> None:
        """Pairs of name and tracker."""
        self._trackers = list(trackers)

    def run_started(self, event: RunStarted) -> None:
        """Tell all."""
        self._tell(lambda tracker: tracker.run_started(event))

    def step(self, event: StepRecord) -> None:
        """Tell all."""
        self._tell(lambda tracker: tracker.step(event))

    def picture(self, event: Picture) -> None:
        """Tell all."""
        self._tell(lambda tracker: tracker.picture(event))

    def scores(self, event: Scores) -> None:
        """Tell all."""
        self._tell(lambda tracker: tracker.scores(event))

    def run_ended(self, event: RunEnded) -> None:
        """Tell all."""
        self._tell(lambda tracker: tracker.run_ended(event))

    def _tell(self, tell: Callable[[Tracker], None]) -> None:
        for entry in list(self._trackers):
            name, tracker = entry
            try:
                tell(tracker)
            except Exception as error:
                self._trackers.remove(entry)
                _log.warning(
                    "tracker %s failed with %s: %s; it is switched off and the run goes on.",
                    name, type(error).__name__, error, exc_info=_log.isEnabledFor(logging.DEBUG),
                )  # fmt: skip
