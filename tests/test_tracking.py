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
from ddpmkit.tracking import Audience, Display, Quiet, Shielded, TrackerThread


class Recorder(Quiet):
    def __init__(self, *, raises: BaseException | None = None) -> None:
        self.steps: list[int] = []
        self.ended: list[str] = []
        self.remarks: list[str] = []
        self.raises = raises

    def step(self, event: StepRecord) -> None:
        self.steps.append(event.step)
        if self.raises is not None:
            raise self.raises

    def run_ended(self, event: RunEnded) -> None:
        self.ended.append(event.status)

    def remark(self, text: str) -> None:
        self.remarks.append(text)


class Sleeper(Recorder):
    """Hangs in the method of this name until it is let go, or sleeps so long in each step."""

    def __init__(self, hangs_in: str = "", naps: float = 0.0) -> None:
        super().__init__()
        self.hangs_in, self.naps, self.let_go = hangs_in, naps, threading.Event()

    def step(self, event: StepRecord) -> None:
        self.let_go.wait(60 if self.hangs_in == "step" else self.naps)
        super().step(event)

    def run_ended(self, event: RunEnded) -> None:
        self.let_go.wait(60 if self.hangs_in == "run_ended" else 0)
        super().run_ended(event)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 1.0)
    monkeypatch.setattr(tracking, "_BRIEFLY", 0.2)
    monkeypatch.setattr(tracking, "_SLOW", 0.2)
    monkeypatch.setattr(tracking, "_MOST_WAITING", 10)


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    made = Sleeper("run_ended")
    yield made
    made.let_go.set()


def audience(*trackers: tuple[str, Tracker], display: Display | None = None) -> Audience:
    return Audience([TrackerThread(name, lambda made=made: made) for name, made in trackers], display)  # type: ignore[misc]


def record(step: int) -> StepRecord:
    return StepRecord(step, 0.5, (0.1, 0.2, None, 0.4), 1.0, 1e-3, 100.0)


END = RunEnded(3, "finished")


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (OSError("connection lost"), "OSError: connection lost"),
        (SystemExit(0), "SystemExit: 0"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_one_that_raises_is_named_and_switched_off_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture, raised: BaseException, said: str
) -> None:
    first, broken, last = Recorder(), Recorder(raises=raised), Recorder()
    told = audience(("first", first), ("acme/broken", broken), ("last", last))
    with caplog.at_level(logging.WARNING):
        for step in (1, 2, 3):
            told.step(record(step))
        told.run_ended(END)
    assert (first.steps, broken.steps, last.steps) == ([1, 2, 3], [1], [1, 2, 3])
    assert (first.ended, broken.ended, last.ended) == (["finished"], [], ["finished"])
    assert caplog.messages == [f"tracker acme/broken failed with {said}; it is switched off and the run goes on."]


def test_every_event_reaches_everyone_in_order(tmp_path: Path) -> None:
    told: list[str] = []

    class All:
        def __getattr__(self, name: str) -> object:
            return lambda event: told.append(name)

    everyone = audience(("all", All()))  # type: ignore[arg-type]
    everyone.run_started(RunStarted("x", tmp_path, {}, 1, 0, 1))
    everyone.step(record(1))
    everyone.picture(Picture(1, "samples", tmp_path))
    everyone.scores(Scores(1, "m", "p", True, 1, 1, {}, {}, {}))
    everyone.run_ended(RunEnded(1, "finished"))
    assert told == ["run_started", "step", "picture", "scores", "run_ended"]


def test_a_tracker_is_built_and_told_in_one_thread(tmp_path: Path) -> None:
    class Database(Recorder):
        """SQLite refuses a connection of another thread."""

        def __init__(self) -> None:
            super().__init__()
            self.base = sqlite3.connect(tmp_path / "steps.db")
            self.base.execute("create table steps (step)")

        def step(self, event: StepRecord) -> None:
            self.base.execute("insert into steps values (?)", (event.step,))
            self.base.commit()

    told = Audience([TrackerThread("database", Database)])
    told.step(record(7))
    told.run_ended(END)
    assert sqlite3.connect(tmp_path / "steps.db").execute("select step from steps").fetchall() == [(7,)]


@pytest.mark.usefixtures("impatient")
def test_a_slow_one_is_named_once_training_does_not_wait_and_the_end_gets_through(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slow = Sleeper(naps=0.1)
    told = audience(("slow", slow))
    longest = 0.0
    for step in range(1, 41):
        began = time.monotonic()
        told.step(record(step))
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.02)
    told.run_ended(END)
    assert longest < 0.09
    assert slow.ended == ["finished"]
    assert slow.steps == sorted(slow.steps)
    assert [message for message in caplog.messages if message.startswith("tracker slow is slow: ")] == [
        caplog.messages[0]
    ]
    assert caplog.messages[-1].startswith("tracker slow was too slow for ")
    assert caplog.messages[-1] == f"tracker slow was too slow for {40 - len(slow.steps)} training records."


@pytest.mark.usefixtures("impatient")
def test_one_that_hangs_is_abandoned_and_named(caplog: pytest.LogCaptureFixture) -> None:
    hanging, display = Sleeper("step"), Recorder()
    told = audience(("hanging", hanging), display=display)
    told.step(record(1))
    time.sleep(1.2)
    told.step(record(2))
    assert caplog.messages == [
        "tracker hanging did not return from an event within 1 seconds; it is abandoned, and the run continues."
    ]
    began = time.monotonic()
    told.run_ended(END)
    assert time.monotonic() - began < 0.5
    hanging.let_go.set()


@pytest.mark.usefixtures("impatient")
def test_the_end_of_a_run_waits_for_a_hanging_one_only_so_long(
    caplog: pytest.LogCaptureFixture, sleeper: Sleeper
) -> None:
    other = Recorder()
    told = audience(("hanging", sleeper), ("other", other))
    began = time.monotonic()
    told.run_ended(END)
    assert 0.9 < time.monotonic() - began < 5
    assert caplog.messages == ["tracker hanging has not ended after 1 seconds; it is abandoned, and the run continues."]
    assert other.ended == ["finished"]


def test_the_end_of_a_run_does_not_wait_once_it_is_asked_to_stop(
    caplog: pytest.LogCaptureFixture, sleeper: Sleeper
) -> None:
    display, began = Recorder(), time.monotonic()
    told = audience(("hanging", sleeper), display=display)
    told.run_ended(END, stop=lambda: time.monotonic() - began > 2.5)
    assert time.monotonic() - began < 30
    assert display.remarks == ["waiting for tracker hanging, at most 120 seconds (Ctrl-C: no longer)"]
    assert "is abandoned" in caplog.text


def test_a_run_that_was_stopped_still_lets_its_trackers_end() -> None:
    last = Sleeper(naps=0.3)
    told = audience(("last", last))
    told.step(record(1))
    told.run_ended(END, stop=lambda: True)
    assert (last.steps, last.ended) == ([1], ["finished"])


@pytest.mark.usefixtures("impatient")
def test_events_that_wait_are_taken_before_what_they_name_is_deleted() -> None:
    busy, hanging = Sleeper(naps=0.1), Sleeper("step")
    told = audience(("busy", busy))
    told.step(record(1))
    told.catch_up()
    assert busy.steps == [1]
    told, began = audience(("hanging", hanging)), time.monotonic()
    told.step(record(1))
    told.catch_up()
    assert 0.1 < time.monotonic() - began < 10
    hanging.let_go.set()


def test_a_working_directory_that_a_tracker_leaves_is_put_back(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    class Walker(Recorder):
        def step(self, event: StepRecord) -> None:
            os.chdir(tmp_path)

    before = Path.cwd()
    told = audience(("walker", Walker()))
    told.step(record(1))
    told.run_ended(END)
    assert Path.cwd() == before
    assert caplog.messages == ["tracker walker changed the working directory; it was put back."]


def test_what_building_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        TrackerThread("broken", lambda: 1 / 0)  # type: ignore[arg-type, return-value]


class FailingDisplay(Quiet):
    """Fails in one method."""

    def __init__(self, fails_in: str) -> None:
        self.fails_in = fails_in

    def __getattribute__(self, name: str) -> object:
        if name == object.__getattribute__(self, "fails_in"):
            raise OSError("no space")
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("method", ["remark", "step", "work"])
def test_a_display_that_fails_is_switched_off_and_named(caplog: pytest.LogCaptureFixture, method: str) -> None:
    shown = Shielded(FailingDisplay(method))
    for _ in range(2):
        shown.remark("one")
        shown.step(record(1))
        with shown.work("drawing", 2) as advance:
            advance(1)
    assert caplog.messages == ["the display failed with OSError: no space; the run continues without it."]


def test_a_display_neither_fails_nor_swallows_the_work_that_it_shows() -> None:
    class Swallowing(Quiet):
        def work(self, description: str, total: int) -> "Swallowing":  # type: ignore[override]
            return self

        def __enter__(self) -> object:
            return self.advance

        def advance(self, more: int) -> None:
            raise ValueError("a bar of no length")

        def __exit__(self, *_error: object) -> bool:
            return True

    with pytest.raises(ZeroDivisionError), Shielded(Swallowing()).work("drawing", 2):  # type: ignore[arg-type]
        raise ZeroDivisionError
    with Shielded(Swallowing()).work("drawing", 2) as advance:  # type: ignore[arg-type]
        advance(1)


class Clearer(Recorder):
    """Takes what is in a score for its own."""

    def scores(self, event: Scores) -> None:
        event.values.clear()  # type: ignore[attr-defined]  # that is the fault


def test_what_a_tracker_does_to_a_score_changes_it_for_nobody_else() -> None:
    scores = Scores(
        3, "m", "p", comparable=True, num_samples=2, num_reference=2, values={"d": 1.0}, floor={}, better={}
    )
    audience = Audience([TrackerThread("clearer", Clearer)], Quiet())
    audience.scores(scores)
    audience.run_ended(RunEnded(3, "finished"))
    assert scores.values == {"d": 1.0}
