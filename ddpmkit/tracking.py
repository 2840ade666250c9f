"""Telling everyone who wants to know: trackers and the display.

A tracker gets its events in a thread of its own, so training waits for none. One that raises is named and switched off,
one that is slow is named, one that hangs is abandoned, and the run goes on. A display that raises is switched off too.
"""

import contextlib
import copy
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord, Tracker
from ddpmkit.errors import worded
from ddpmkit.plural import counted
from ddpmkit.worker import Worker

__all__ = ["PATIENCE", "Audience", "Display", "Onlooker", "Quiet", "Shielded", "TrackerThread"]

_log = logging.getLogger(__name__)

PATIENCE = 120.0
"""Seconds that a tracker may take for one event, and that the end of a run waits for all trackers together."""
_BRIEFLY = 5.0
"""The same at the end of a run that a person interrupts."""
_SLOW = 10.0
"""Seconds that an event may wait before its tracker is called slow."""
_MOST_WAITING = 1000
"""Training records that may wait for a tracker; further ones are left out."""
_LOOK = 0.02


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


class Shielded:
    """A display whose failure costs what it would have shown, and nothing else."""

    def __init__(self, display: Display) -> None:
        self._display: Display | None = display

    def run_started(self, event: RunStarted) -> None:
        """Passed on."""
        self._show(lambda display: display.run_started(event))

    def step(self, event: StepRecord) -> None:
        """Passed on."""
        self._show(lambda display: display.step(event))

    def picture(self, event: Picture) -> None:
        """Passed on."""
        self._show(lambda display: display.picture(event))

    def scores(self, event: Scores) -> None:
        """Passed on."""
        self._show(lambda display: display.scores(event))

    def run_ended(self, event: RunEnded) -> None:
        """Passed on."""
        self._show(lambda display: display.run_ended(event))

    def remark(self, text: str) -> None:
        """Passed on."""
        self._show(lambda display: display.remark(text))

    @contextlib.contextmanager
    def work(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Passed on; the work itself goes on whatever becomes of the display."""
        shown = self._show(lambda display: display.work(description, total))
        advance = self._show(lambda _display: shown.__enter__()) if shown is not None else None
        try:
            yield lambda more: self._show(lambda _display: advance(more)) if advance is not None else None
        finally:
            if advance is not None:
                self._show(lambda _display: shown.__exit__(*sys.exc_info()))

    def _show(self, call: Callable[[Display], Any]) -> Any:
        """None when the display is switched off, or now fails."""
        if self._display is None:
            return None
        try:
            return call(self._display)
        except Exception as error:
            self._display = None
            _log.warning("the display failed with %s; the run continues without it.", worded(error), exc_info=_debugs())
            return None


class TrackerThread:
    """A tracker, built and told in a thread of its own."""

    def __init__(self, name: str, build: Callable[[], Tracker]) -> None:
        """`name` is the one that a recipe gives it. Raises what `build` raises, TimeoutError when it hangs."""
        self.name = name
        self._worker = Worker(f"tracker {name}")
        self._tracker: Tracker | None = self._worker.call(build, PATIENCE)
        self._waiting: deque[tuple[float, bool]] = deque()
        """Of each event that the tracker has not taken: since when it waits, and whether it is a training record."""
        self._was_called_slow = False
        self._hurries = False
        self._left_out = 0

    @property
    def is_done(self) -> bool:
        """Whether it has taken every event, or will take no more."""
        return self._tracker is None or not self._waiting

    def tell(self, event: object, tell: Callable[[Tracker], None]) -> None:
        """Have the tracker told of `event` once it has taken those before; returns at once."""
        self.look()
        if self._tracker is None:
            return
        is_record = isinstance(event, StepRecord)
        if is_record and len(self._waiting) >= _MOST_WAITING:
            self._left_out += 1
            return
        self._waiting.append((time.monotonic(), is_record))
        self._worker.post(lambda: self._pass_on(tell, is_record))

    def look(self) -> None:
        """Name the tracker if it has become slow; abandon it if it hangs."""
        since, now = self._worker.busy_since, time.monotonic()
        if self._tracker is None or since is None:
            return
        if now - since > PATIENCE:
            self.abandon(f"did not return from an event within {PATIENCE:g} seconds")
        elif not self._was_called_slow and self._waiting and now - self._waiting[0][0] > _SLOW:
            self._was_called_slow = True
            _log.warning(
                "tracker %s is slow: %s waiting. Training does not wait for it.",
                self.name, counted(len(self._waiting), "event"),
            )  # fmt: skip

    def hurry(self) -> None:
        """Leave out the training records that wait, so that the end of the run gets through."""
        self._hurries = True

    def abandon(self, why: str) -> None:
        """Tell it no more, and say so."""
        if self._tracker is not None:
            self._tracker = None
            _log.warning("tracker %s %s; it is abandoned, and the run continues.", self.name, why)

    def end(self) -> None:
        """Say what it missed."""
        if self._tracker is not None and self._left_out:
            _log.warning("tracker %s was too slow for %s.", self.name, counted(self._left_out, "training record"))

    def _pass_on(self, tell: Callable[[Tracker], None], is_record: bool) -> None:
        """In the thread."""
        if (tracker := self._tracker) is None:
            return
        if self._hurries and is_record:
            self._left_out += 1
            self._waiting.popleft()
            return
        folder = _working_folder()
        try:
            tell(tracker)
        except BaseException as error:  # no signal raises in this thread: it is the tracker's own, SystemExit included
            self._tracker = None
            _log.warning(
                "tracker %s failed with %s; it is switched off and the run goes on.",
                self.name, worded(error), exc_info=_debugs(),
            )  # fmt: skip
        if folder is not None and _working_folder() != folder:
            os.chdir(folder)
            _log.warning("tracker %s changed the working directory; it was put back.", self.name)
        self._waiting.popleft()


class Audience:
    """The display and all trackers of a run, told in order."""

    def __init__(self, trackers: Sequence[TrackerThread], display: Display | None = None) -> None:
        """`display` must not fail: it is told in the thread that trains."""
        self._trackers, self._display = trackers, display or Quiet()

    def run_started(self, event: RunStarted) -> None:
        """Tell all."""
        self._tell(event, lambda tracker: tracker.run_started(event))

    def step(self, event: StepRecord) -> None:
        """Tell all."""
        self._tell(event, lambda tracker: tracker.step(event))

    def picture(self, event: Picture) -> None:
        """Tell all."""
        self._tell(event, lambda tracker: tracker.picture(event))

    def scores(self, event: Scores) -> None:
        """Tell all; each tracker gets a copy, as the run goes by these scores later."""
        self._display.scores(event)
        for tracker in self._trackers:
            own = copy.deepcopy(event)
            tracker.tell(own, lambda tracker, own=own: tracker.scores(own))  # type: ignore[misc]  # mypy cannot infer it

    def run_ended(
        self, event: RunEnded, *, stop: Callable[[], bool] = lambda: False, interrupted: bool = False
    ) -> None:
        """Tell all, and wait until the trackers have taken everything: not long, and not once `stop` turns true."""
        self._tell(event, lambda tracker: tracker.run_ended(event))
        began, patience, is_asked_already = time.monotonic(), _BRIEFLY if interrupted else PATIENCE, stop()
        remarked = False
        while late := [tracker for tracker in self._trackers if not tracker.is_done]:
            waited = time.monotonic() - began
            if waited > patience / 2:
                for tracker in late:
                    tracker.hurry()
            if waited > patience or (stop() and not is_asked_already):
                break
            if waited > 2 and not remarked:
                remarked = True
                names = ", ".join(tracker.name for tracker in late)
                self._display.remark(f"waiting for tracker {names}, at most {patience:g} seconds (Ctrl-C: no longer)")
            time.sleep(_LOOK)
        for tracker in late:
            tracker.abandon(f"has not ended after {time.monotonic() - began:.0f} seconds")
        for tracker in self._trackers:
            tracker.end()

    def catch_up(self) -> None:
        """Give the trackers some seconds for what waits, before files that it names are deleted."""
        began = time.monotonic()
        while time.monotonic() - began < _SLOW and not all(tracker.is_done for tracker in self._trackers):
            time.sleep(_LOOK)

    def _tell(self, event: object, tell: Callable[[Tracker], None]) -> None:
        tell(self._display)
        for tracker in self._trackers:
            tracker.tell(event, tell)


def _working_folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 -- compared as text
    except OSError:
        return None


def _debugs() -> bool:
    return _log.isEnabledFor(logging.DEBUG)
