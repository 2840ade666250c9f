import json
import resource
from pathlib import Path

import pytest

from ddpmkit.runlog import RunLog


def test_lines_come_back_in_order_and_an_unfinished_last_line_is_left_out(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    log.append("step", {"step": 1, "loss": 0.5})
    log.append("scores", {"step": 1, "values": {"fid": 3.0}})
    with log.path.open("a") as file:
        file.write('{"event": "step", "step": 2, "lo')
    assert [record["event"] for record in log.records()] == ["step", "scores"]
    assert [record["loss"] for record in log.records("step")] == [0.5]


def test_a_line_is_never_joined_to_an_unfinished_one(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"event": "step", "step": 1}\n{"event": "st')
    log = RunLog(tmp_path / "log")
    log.append("step", {"step": 2})
    log.append("step", {"step": 3})
    assert [record["step"] for record in log.records()] == [1, 2, 3]


def test_what_is_not_wanted_is_dropped_and_the_rest_stays_byte_for_byte(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    for step in (1, 2, 3):
        log.append("step", {"step": step, "loss": 1 / 3})
    before = log.path.read_text().splitlines()
    log.keep(lambda record: record["step"] <= 2)
    assert log.path.read_text().splitlines() == before[:2]


def test_a_number_that_json_does_not_know_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        RunLog(tmp_path / "log").append("step", {"step": 1, "loss": float("nan")})


def test_lines_are_json_that_others_can_read(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    log.append("step", {"step": 1, "loss_by_quarter": (0.1, None, 0.3, 0.4)})
    assert json.loads(log.path.read_text()) == {"event": "step", "step": 1, "loss_by_quarter": [0.1, None, 0.3, 0.4]}


def test_lines_that_the_disk_does_not_take_wait_and_keep_their_order(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    log.append("step", {"step": 1})
    taken = log.path.read_bytes()
    # Room for a part of the next line only.
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


def test_waiting_lines_can_be_dropped_too(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    log.append("step", {"step": 1})
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.path.stat().st_size, resource.RLIM_INFINITY))
    log.append("step", {"step": 2})
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.keep(lambda record: record["step"] <= 1)
    log.sync()
    assert [record["step"] for record in log.records()] == [1]
