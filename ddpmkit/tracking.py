"""Sends the events of a run to its display and its trackers.

Each tracker runs in a thread of its own, so training never waits for it. A tracker that raises is disabled with a
warning, a slow one is named, and one that hangs is abandoned; the run continues.
"""

import copy
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord, Tracker
from ddpmkit.display import Display, SilentDisplay
from ddpmkit.errors import error_text
from ddpmkit.global_state import working_folder
from ddpmkit.plural import counted
from ddpmkit.worker import Worker

__all__ = ["EVENT_TIMEOUT", "EventDispatcher", "TrackerThread"]

_log = logging.getLogger(__name__)

EVENT_TIMEOUT = 120.0
"""Seconds that a tracker may take for one event, and that the end of a run waits for all trackers together."""
_INTERRUPTED_TIMEOUT = 5.0
"""Seconds that the end of an interrupted run waits for all trackers together."""
_SLOW = 10.0
"""Seconds that an event may wait before a warning names its tracker as slow."""
_MAX_QUEUED_RECORDS = 1000
"""Training records that may wait for a tracker; further ones are dropped."""
_POLL_INTERVAL = 0.02


class TrackerThread:
    """Builds a tracker and calls it, in a thread of its own."""

    def __init__(self, name: str, build: Callable[[], Tracker]) -> None:
        """`name` is the tracker's name in the recipe. Raises what `build` raises; TimeoutError if it hangs."""
        self.name = name
        self._worker = Worker(f"tracker {name}")
        self._tracker: Tracker | None = self._worker.call(build, EVENT_TIMEOUT)
        self._queued: deque[tuple[float, bool]] = deque()
        """For each event that is not handled yet: when it was sent, and whether it is a training record."""
        self._was_called_slow = False
        self._drops_records = False
        self._dropped = 0

    @property
    def is_done(self) -> bool:
        """Whether the tracker has handled every event, or will handle no more."""
        return self._tracker is None or not self._queued

    def send(self, event: object, deliver: Callable[[Tracker], None]) -> None:
        """Queue `deliver`, which passes `event` to the tracker; returns immediately."""
        self.check()
        if self._tracker is None:
            return
        is_record = isinstance(event, StepRecord)
        if is_record and len(self._queued) >= _MAX_QUEUED_RECORDS:
            self._dropped += 1
            return
        self._queued.append((time.monotonic(), is_record))
        self._worker.post(lambda: self._deliver(deliver, is_record))

    def check(self) -> None:
        """Warn if the tracker has become slow; abandon it if it hangs."""
        since, now = self._worker.busy_since, time.monotonic()
        if self._tracker is None or since is None:
            return
        if now - since > EVENT_TIMEOUT:
            self.abandon(f"did not return from an event within {EVENT_TIMEOUT:g} seconds")
        elif not self._was_called_slow and self._queued and now - self._queued[0][0] > _SLOW:
            self._was_called_slow = True
            _log.warning(
                "tracker %s is slow: %s waiting. Training does not wait for it.",
                self.name, counted(len(self._queued), "event"),
            )  # fmt: skip

    def drop_records(self) -> None:
        """Drop the training records in the queue, so that the end of the run gets through."""
        self._drops_records = True

    def abandon(self, why: str) -> None:
        """Send the tracker nothing more, with a warning."""
        if self._tracker is not None:
            self._tracker = None
            _log.warning("tracker %s %s; it is abandoned, and the run continues.", self.name, why)

    def warn_of_dropped(self) -> None:
        """Warn if training records were dropped."""
        if self._tracker is not None and self._dropped:
            _log.warning("tracker %s was too slow for %s.", self.name, counted(self._dropped, "training record"))

    def _deliver(self, deliver: Callable[[Tracker], None], is_record: bool) -> None:
        """Runs in the thread."""
        if (tracker := self._tracker) is None:
            return
        if self._drops_records and is_record:
            self._dropped += 1
            self._queued.popleft()
            return
        folder = working_folder()
        try:
            deliver(tracker)
        except BaseException as error:  # no signal raises in this thread: it is the tracker's own, SystemExit included
            self._tracker = None
            _log.warning(
                "tracker %s failed with %s; it is disabled, and the run continues.",
                self.name, error_text(error), exc_info=_log.isEnabledFor(logging.DEBUG),
            )  # fmt: skip
        if folder is not None and working_folder() != folder:
            os.chdir(folder)
            _log.warning("tracker %s changed the working directory; it was restored.", self.name)
        self._queued.popleft()


class EventDispatcher:
    """Sends each event of a run to the display and to all trackers, in order."""

    def __init__(self, trackers: Sequence[TrackerThread], display: Display | None = None) -> None:
        """`display` is called in the training thread and must not raise: see `SafeDisplay`."""
        self._trackers, self._display = trackers, display or SilentDisplay()

    def run_started(self, event: RunStarted) -> None:
        """Send the event to all."""
        self._send(event, lambda tracker: tracker.run_started(event))

    def step(self, event: StepRecord) -> None:
        """Send the event to all."""
        self._send(event, lambda tracker: tracker.step(event))

    def picture(self, event: Picture) -> None:
        """Send the event to all."""
        self._send(event, lambda tracker: tracker.picture(event))

    def scores(self, event: Scores) -> None:
        """Send the event to all; each tracker gets a copy, because the run uses these scores later."""
        self._display.scores(event)
        for tracker in self._trackers:
            own = copy.deepcopy(event)
            tracker.send(own, lambda tracker, own=own: tracker.scores(own))  # type: ignore[misc]  # mypy cannot infer it

    def run_ended(
        self, event: RunEnded, *, stop: Callable[[], bool] = lambda: False, interrupted: bool = False
    ) -> None:
        """Send the event to all, and wait until the trackers have handled everything.

        The wait ends after `EVENT_TIMEOUT` (5 seconds if the run was interrupted), or when `stop` becomes true.
        """
        self._send(event, lambda tracker: tracker.run_ended(event))
        began, timeout, was_stopped = time.monotonic(), _INTERRUPTED_TIMEOUT if interrupted else EVENT_TIMEOUT, stop()
        shown = False
        while late := [tracker for tracker in self._trackers if not tracker.is_done]:
            waited = time.monotonic() - began
            if waited > timeout / 2:
                for tracker in late:
                    tracker.drop_records()
            if waited > timeout or (stop() and not was_stopped):
                break
            if waited > 2 and not shown:
                shown = True
                names = ", ".join(tracker.name for tracker in late)
                self._display.message(f"waiting for tracker {names}, at most {timeout:g} seconds (Ctrl-C: end now)")
            time.sleep(_POLL_INTERVAL)
        for tracker in late:
            tracker.abandon(f"has not finished after {time.monotonic() - began:.0f} seconds")
        for tracker in self._trackers:
            tracker.warn_of_dropped()

    def wait_briefly(self) -> None:
        """Give the trackers some seconds for queued events, before files that these name are deleted."""
        began = time.monotonic()
        while time.monotonic() - began < _SLOW and not all(tracker.is_done for tracker in self._trackers):
            time.sleep(_POLL_INTERVAL)

    def _send(self, event: object, deliver: Callable[[Tracker], None]) -> None:
        deliver(self._display)
        for tracker in self._trackers:
            tracker.send(event, deliver)
