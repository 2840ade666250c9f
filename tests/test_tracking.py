import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddpmkit import tracking
from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord, Tracker
from ddpmkit.display import Display, SilentDisplay
from ddpmkit.tracking import EventDispatcher, TrackerThread


class Recorder(SilentDisplay):
    def __init__(self, *, raises: BaseException | None = None) -> None:
        self.steps: list[int] = []
        self.ended: list[str] = []
        self.messages: list[str] = []
        self.raises = raises

    def step(self, event: StepRecord) -> None:
        self.steps.append(event.step)
        if self.raises is not None:
            raise self.raises

    def run_ended(self, event: RunEnded) -> None:
        self.ended.append(event.status)

    def message(self, text: str) -> None:
        self.messages.append(text)


class Sleeper(Recorder):
    """Hangs in the method of this name until it is released, or sleeps `naps` seconds in each step."""

    def __init__(self, hangs_in: str = "", naps: float = 0.0) -> None:
        super().__init__()
        self.hangs_in, self.naps, self.release = hangs_in, naps, threading.Event()

    def step(self, event: StepRecord) -> None:
        self.release.wait(60 if self.hangs_in == "step" else self.naps)
        super().step(event)

    def run_ended(self, event: RunEnded) -> None:
        self.release.wait(60 if self.hangs_in == "run_ended" else 0)
        super().run_ended(event)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "EVENT_TIMEOUT", 1.0)
    monkeypatch.setattr(tracking, "_INTERRUPTED_TIMEOUT", 0.2)
    monkeypatch.setattr(tracking, "_SLOW", 0.2)
    monkeypatch.setattr(tracking, "_MAX_QUEUED_RECORDS", 10)


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    made = Sleeper("run_ended")
    yield made
    made.release.set()


def dispatcher(*trackers: tuple[str, Tracker], display: Display | None = None) -> EventDispatcher:
    return EventDispatcher([TrackerThread(name, lambda made=made: made) for name, made in trackers], display)  # type: ignore[misc]


def record(step: int) -> StepRecord:
    return StepRecord(step, 0.5, (0.1, 0.2, None, 0.4), 1.0, 1e-3, 100.0)


END = RunEnded(3, "finished")


@pytest.mark.parametrize(
    ("raised", "named"),
    [
        (OSError("connection lost"), "OSError: connection lost"),
        (SystemExit(0), "SystemExit: 0"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_a_tracker_that_raises_is_named_and_disabled_and_the_others_continue(
    caplog: pytest.LogCaptureFixture, raised: BaseException, named: str
) -> None:
    first, broken, last = Recorder(), Recorder(raises=raised), Recorder()
    events = dispatcher(("first", first), ("acme/broken", broken), ("last", last))
    with caplog.at_level(logging.WARNING):
        for step in (1, 2, 3):
            events.step(record(step))
        events.run_ended(END)
    assert (first.steps, broken.steps, last.steps) == ([1, 2, 3], [1], [1, 2, 3])
    assert (first.ended, broken.ended, last.ended) == (["finished"], [], ["finished"])
    assert caplog.messages == [f"tracker acme/broken failed with {named}; it is disabled, and the run continues."]


def test_every_event_reaches_the_trackers_in_order(tmp_path: Path) -> None:
    received: list[str] = []

    class All:
        def __getattr__(self, name: str) -> object:
            return lambda event: received.append(name)

    events = dispatcher(("all", All()))  # type: ignore[arg-type]
    events.run_started(RunStarted("x", tmp_path, {}, 1, 0, 1))
    events.step(record(1))
    events.picture(Picture(1, "samples", tmp_path))
    events.scores(Scores(1, "m", "p", True, 1, 1, {}, {}, {}))
    events.run_ended(RunEnded(1, "finished"))
    assert received == ["run_started", "step", "picture", "scores", "run_ended"]


def test_a_tracker_is_built_and_called_in_one_thread(tmp_path: Path) -> None:
    class Database(Recorder):
        """SQLite does not allow a connection to be used in another thread."""

        def __init__(self) -> None:
            super().__init__()
            self.base = sqlite3.connect(tmp_path / "steps.db")
            self.base.execute("create table steps (step)")

        def step(self, event: StepRecord) -> None:
            self.base.execute("insert into steps values (?)", (event.step,))
            self.base.commit()

    events = EventDispatcher([TrackerThread("database", Database)])
    events.step(record(7))
    events.run_ended(END)
    assert sqlite3.connect(tmp_path / "steps.db").execute("select step from steps").fetchall() == [(7,)]


@pytest.mark.usefixtures("impatient")
def test_a_slow_tracker_is_named_once_and_training_does_not_wait_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slow = Sleeper(naps=0.1)
    events = dispatcher(("slow", slow))
    longest = 0.0
    for step in range(1, 41):
        began = time.monotonic()
        events.step(record(step))
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.02)
    events.run_ended(END)
    assert longest < 0.09
    assert slow.ended == ["finished"]
    assert slow.steps == sorted(slow.steps)
    assert [message for message in caplog.messages if message.startswith("tracker slow is slow: ")] == [
        caplog.messages[0]
    ]
    assert caplog.messages[-1].startswith("tracker slow was too slow for ")
    assert caplog.messages[-1] == f"tracker slow was too slow for {40 - len(slow.steps)} training records."


@pytest.mark.usefixtures("impatient")
def test_a_tracker_that_hangs_is_abandoned_and_named(caplog: pytest.LogCaptureFixture) -> None:
    hanging, display = Sleeper("step"), Recorder()
    events = dispatcher(("hanging", hanging), display=display)
    events.step(record(1))
    time.sleep(1.2)
    events.step(record(2))
    assert caplog.messages == [
        "tracker hanging did not return from an event within 1 seconds; it is abandoned, and the run continues."
    ]
    began = time.monotonic()
    events.run_ended(END)
    assert time.monotonic() - began < 0.5
    hanging.release.set()


@pytest.mark.usefixtures("impatient")
def test_the_end_of_a_run_waits_for_a_hanging_tracker_for_a_limited_time(
    caplog: pytest.LogCaptureFixture, sleeper: Sleeper
) -> None:
    other = Recorder()
    events = dispatcher(("hanging", sleeper), ("other", other))
    began = time.monotonic()
    events.run_ended(END)
    assert 0.9 < time.monotonic() - began < 5
    assert caplog.messages == [
        "tracker hanging has not finished after 1 seconds; it is abandoned, and the run continues."
    ]
    assert other.ended == ["finished"]


def test_the_end_of_a_run_stops_waiting_when_a_stop_is_requested(
    caplog: pytest.LogCaptureFixture, sleeper: Sleeper
) -> None:
    display, began = Recorder(), time.monotonic()
    events = dispatcher(("hanging", sleeper), display=display)
    events.run_ended(END, stop=lambda: time.monotonic() - began > 2.5)
    assert time.monotonic() - began < 30
    assert display.messages == ["waiting for tracker hanging, at most 120 seconds (Ctrl-C: end now)"]
    assert "is abandoned" in caplog.text


def test_a_run_that_was_stopped_still_waits_for_its_trackers() -> None:
    last = Sleeper(naps=0.3)
    events = dispatcher(("last", last))
    events.step(record(1))
    events.run_ended(END, stop=lambda: True)
    assert (last.steps, last.ended) == ([1], ["finished"])


@pytest.mark.usefixtures("impatient")
def test_queued_events_are_handled_before_the_files_that_they_name_are_deleted() -> None:
    busy, hanging = Sleeper(naps=0.1), Sleeper("step")
    events = dispatcher(("busy", busy))
    events.step(record(1))
    events.wait_briefly()
    assert busy.steps == [1]
    events, began = dispatcher(("hanging", hanging)), time.monotonic()
    events.step(record(1))
    events.wait_briefly()
    assert 0.1 < time.monotonic() - began < 10
    hanging.release.set()


def test_a_working_directory_that_a_tracker_changes_is_restored(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    class Walker(Recorder):
        def step(self, event: StepRecord) -> None:
            os.chdir(tmp_path)

    before = Path.cwd()
    events = dispatcher(("walker", Walker()))
    events.step(record(1))
    events.run_ended(END)
    assert Path.cwd() == before
    assert caplog.messages == ["tracker walker changed the working directory; it was restored."]


def test_an_error_while_building_a_tracker_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        TrackerThread("broken", lambda: 1 / 0)  # type: ignore[arg-type, return-value]


class Clearer(Recorder):
    """Clears the scores that it receives."""

    def scores(self, event: Scores) -> None:
        event.values.clear()  # type: ignore[attr-defined]  # the fault under test


def test_a_tracker_that_changes_its_scores_changes_them_for_nobody_else() -> None:
    scores = Scores(
        3, "m", "p", comparable=True, num_samples=2, num_reference=2, values={"d": 1.0}, floor={}, better={}
    )
    events = EventDispatcher([TrackerThread("clearer", Clearer)], SilentDisplay())
    events.scores(scores)
    events.run_ended(RunEnded(3, "finished"))
    assert scores.values == {"d": 1.0}
