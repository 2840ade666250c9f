import contextlib
import json
import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import pytest

from ddpmkit import run_log
from ddpmkit.contracts import Scores, StepRecord
from ddpmkit.run_log import RunLog

GOOD = b'{"event": "step", "step": 1}\n'
SHAPES = {"step": StepRecord, "scores": Scores}
STEP = StepRecord(1, 0.5, (0.1, None, 0.2, 0.3), 1.0, 1e-3, 96.0)


def test_records_are_read_in_order_and_an_incomplete_last_line_is_skipped(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    log.append("step", {"step": 1, "loss": 0.5})
    log.append("scores", {"step": 1, "values": {"fid": 3.0}})
    with log.path.open("a") as file:
        file.write('{"event": "step", "step": 2, "lo')
    assert [record["event"] for record in log.records()] == ["step", "scores"]
    assert [record["loss"] for record in log.records("step")] == [0.5]


def test_a_line_is_never_joined_to_an_incomplete_one(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"event": "step", "step": 1}\n{"event": "st')
    log = RunLog(tmp_path / "log")
    log.append("step", {"step": 2})
    log.append("step", {"step": 3})
    assert [record["step"] for record in log.records()] == [1, 2, 3]


def test_unwanted_records_are_removed_and_other_lines_stay_byte_for_byte(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    for step in (1, 2, 3):
        log.append("step", {"step": step, "loss": 1 / 3})
    before = log.path.read_text().splitlines()
    log.keep(lambda record: record["step"] <= 2)
    assert log.path.read_text().splitlines() == before[:2]


def test_a_line_appended_while_the_log_is_rewritten_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, rewrite = RunLog(tmp_path / "log"), run_log.atomic_write
    for step in (1, 2):
        log.append("step", {"step": step})
    other = threading.Thread(target=RunLog(log.path).append, args=("scores", {"step": 1}))

    @contextlib.contextmanager
    def slowly(path: Path) -> Iterator[BinaryIO]:
        with rewrite(path) as file:
            yield file
            other.start()
            other.join(0.5)

    monkeypatch.setattr(run_log, "atomic_write", slowly)
    log.keep(lambda record: record["step"] <= 1)
    other.join()
    assert [(record["event"], record["step"]) for record in log.records()] == [("step", 1), ("scores", 1)]


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        RunLog(tmp_path / "log").append("step", {"step": 1, "loss": float("nan")})


def test_lines_are_valid_json(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    log.append("step", {"step": 1, "loss_by_quarter": (0.1, None, 0.3, 0.4)})
    assert json.loads(log.path.read_text()) == {"event": "step", "step": 1, "loss_by_quarter": [0.1, None, 0.3, 0.4]}


def test_lines_wait_in_order_while_the_disk_is_full(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    log.append("step", {"step": 1})
    taken = log.path.read_bytes()
    # There is space for a part of the next line only.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(taken) + 10, resource.RLIM_INFINITY))
    log.append("step", {"step": 2})
    log.append("step", {"step": 3})
    assert log.path.read_bytes() == taken
    with pytest.raises(OSError, match="File too large"):
        log.sync()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.append("step", {"step": 4})
    log.sync()
    assert [record["step"] for record in log.records()] == [1, 2, 3, 4]


def test_waiting_lines_can_be_removed(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    log.append("step", {"step": 1})
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.path.stat().st_size, resource.RLIM_INFINITY))
    log.append("step", {"step": 2})
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.keep(lambda record: record["step"] <= 1)
    log.sync()
    assert [record["step"] for record in log.records()] == [1]


BAD = {
    "empty": b"\n",
    "spaces": b"  \n",
    "a byte that is not UTF-8": b'{"event": "step", "step": 1, "x": "\xff"}\n',
    "JSON of another kind": b"[1, 2]\n",
    "a number": b"7\n",
    "another shape": b'{"loss": 0.5}\n',
    "an event that is a list": b'{"event": [], "step": 1}\n',
    "a step that is text": b'{"event": "step", "step": "one"}\n',
    "a step below 0": b'{"event": "step", "step": -1}\n',
    "a step beyond 64 bits": b'{"event": "step", "step": 1%s}\n' % (b"0" * 30),
    "half a line": b'{"event": "step", "st\n',
    "endless nesting": b"[" * 100_000 + b"\n",
    "a number of 5,000 digits": b'{"event": "step", "step": 1, "x": %s}\n' % (b"9" * 5000),
    "zeros": b"\0" * 100 + b"\n",
    "UTF-16": '{"event": "step", "step": 1}'.encode("utf-16") + b"\n",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_readers_skip_a_bad_line_with_a_warning_and_read_all_others(
    tmp_path: Path, bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    log = RunLog(tmp_path / "log")
    content = GOOD + bad + GOOD.replace(b"1", b"2")
    log.path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert [record["step"] for record in log.records()] == [1, 2]
    assert "line 2" in caplog.text
    assert log.path.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_the_writer_moves_a_bad_line_to_another_file_and_changes_no_other_byte(
    tmp_path: Path, bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    log = RunLog(tmp_path / "log")
    for _ in range(2):
        log.path.write_bytes(GOOD + bad + GOOD)
        log.keep(lambda _record: True)
        assert log.path.read_bytes() == 2 * GOOD
    assert (tmp_path / "log.damaged").read_bytes() == 2 * bad
    assert "line 2" in caplog.text
    assert "log.damaged" in caplog.text


@pytest.mark.parametrize(
    ("event", "key", "value"),
    [
        ("step", "loss", None),
        ("step", "loss_by_quarter", 0.5),
        ("step", "loss_by_quarter", ["much"]),
        ("step", "images_per_second", {}),
        ("scores", "values", [1.0]),
        ("scores", "values", {"fid": "low"}),
        ("scores", "metric", ["clean-fid"]),
        ("scores", "better", {"fid": "maybe"}),
    ],
)
def test_a_record_of_another_shape_is_a_bad_line(tmp_path: Path, event: str, key: str, value: object) -> None:
    log = RunLog(tmp_path / "log", SHAPES)
    scores = Scores(1, "clean-fid", "standard", True, 10, 10, {"fid": 1.0}, {}, {"fid": "lower"})
    good = {"step": asdict(STEP), "scores": asdict(scores)}[event]
    log.append(event, good)
    expected = log.path.read_bytes()
    log.append(event, {**good, key: value})
    log.append(event, {name: entry for name, entry in good.items() if name != key})
    assert len(list(log.records(event))) == 1
    log.keep(lambda _record: True)
    assert log.path.read_bytes() == expected


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log", SHAPES)
    log.append("step", asdict(STEP))
    assert list(log.records()) == [{"event": "step", **asdict(STEP)}]


@pytest.mark.parametrize("name", ["a\u2028b", "a\x85b", "a\x1cb", "a\nb", "a\rb", "naïve", "\udcff", "\ud800x", "\0"])
def test_no_character_in_a_name_breaks_a_line(tmp_path: Path, name: str) -> None:
    log = RunLog(tmp_path / "log", SHAPES)
    scores = Scores(1, name, "standard", True, 10, 10, {name: 1.0}, {}, {name: "lower"}, {name: name})
    log.append("scores", asdict(scores))
    log.append("step", asdict(STEP))
    log.sync()
    assert log.path.read_bytes().isascii()
    assert len(log.path.read_text().splitlines()) == 2
    log.keep(lambda _record: True)
    assert [record["event"] for record in log.records()] == ["scores", "step"]
    assert next(log.records("scores"))["facts"] == {name: name}


def test_a_complete_last_line_without_a_line_end_is_read(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    log.path.write_bytes(GOOD + GOOD.rstrip().replace(b"1", b"2"))
    assert [record["step"] for record in log.records()] == [1, 2]
    log.keep(lambda _record: True)
    log.append("step", {"step": 3})
    assert [record["step"] for record in log.records()] == [1, 2, 3]


def test_a_last_line_cut_inside_a_character_is_skipped_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = RunLog(tmp_path / "log")
    log.path.write_bytes(GOOD + b'{"event": "step", "step": 2, "name": "na\xc3')
    assert [record["step"] for record in log.records()] == [1]
    log.keep(lambda _record: True)
    assert log.path.read_bytes() == GOOD
    assert not caplog.records


def test_a_log_with_nothing_to_remove_is_not_written(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    log.path.write_bytes(2 * GOOD)
    before = log.path.stat()
    log.keep(lambda _record: True)
    after = log.path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_many_bad_lines_are_named_by_line_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = RunLog(tmp_path / "log")
    log.path.write_bytes(b"x\ny\n" + GOOD + b"z\n" + 6 * (GOOD + b"\n"))
    assert len(list(log.records())) == 7
    assert "lines 1 to 2, 4, 6, 8, 10 and 3 more (not JSON)" in caplog.text


def no_regular_file(kind: str, path: Path) -> None:
    outside = path.with_name("outside")
    outside.write_bytes(GOOD)
    match kind:
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "a socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
        case "a link":
            path.symlink_to(outside)
        case "a link to itself":
            path.symlink_to(path)
        case "a link to nothing":
            path.symlink_to(path.with_name("absent"))


KINDS = ["a folder", "a pipe", "a socket", "a link", "a link to itself", "a link to nothing"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "use",
    [
        lambda log: list(log.records()),
        lambda log: log.keep(lambda _record: False),
        lambda log: (log.append("step", {"step": 1}), log.sync()),
    ],
    ids=["read", "keep", "append"],
)
def test_a_path_that_is_not_a_regular_file_is_an_error(
    tmp_path: Path, kind: str, use: Callable[[RunLog], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket may have 108 bytes at most
    no_regular_file(kind, Path("log"))
    with pytest.raises(OSError, match=r"is a link|is a pipe|Is a directory"):
        use(RunLog(Path("log")))
    assert Path("outside").read_bytes() == GOOD
    assert not Path("absent").exists()


def test_a_million_lines_take_seconds_and_no_memory(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log", SHAPES)
    line = json.dumps({"event": "step", **asdict(STEP)}) + "\n"
    with log.path.open("w") as file:
        for _ in range(1000):
            file.write(line * 1000)
    memory, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    log.keep(lambda _record: True)
    assert sum(1 for _ in log.records()) == 1_000_000
    assert list(log.records("scores")) == []
    # Measured: 6 s on one core of a small machine, and 5 MB.
    assert time.process_time() - seconds < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 50_000
