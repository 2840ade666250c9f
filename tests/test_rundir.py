import json
from pathlib import Path

import pytest

from ddpmkit.errors import InputError
from ddpmkit.rundir import RunFolder, write_atomically


def test_lines_come_back_in_order_and_an_unfinished_last_line_is_passed_over(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append("step", {"step": 1, "loss": 0.5})
    folder.append("scores", {"step": 1, "values": {"fid": 3.0}})
    with folder.metrics.open("a") as log:
        log.write('{"event": "step", "step": 2, "lo')
    assert [record["event"] for record in folder.records()] == ["step", "scores"]
    assert [record["loss"] for record in folder.records("step")] == [0.5]


def test_forgetting_keeps_what_lies_before(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.append("step", {"step": step, "loss": 1 / 3})
        write_atomically(folder.samples(step), b"png")
    before = folder.metrics.read_text().splitlines()
    folder.forget_after(2)
    assert folder.metrics.read_text().splitlines() == before[:2]
    assert [folder.samples(step).exists() for step in (1, 2, 3)] == [True, True, False]


def test_a_number_that_json_does_not_know_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        RunFolder(tmp_path).append("step", {"step": 1, "loss": float("nan")})


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="cannot be written") as caught:
        RunFolder(tmp_path / "taken").create()
    assert "--out" in str(caught.value)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "a" / "page.html"
    write_atomically(target, b"first")
    write_atomically(target, b"second")
    assert target.read_bytes() == b"second"
    assert [file.name for file in target.parent.iterdir()] == ["page.html"]


def test_lines_are_json_that_others_can_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append("step", {"step": 1, "loss_by_quarter": (0.1, None, 0.3, 0.4)})
    assert json.loads(folder.metrics.read_text()) == {
        "event": "step", "step": 1, "loss_by_quarter": [0.1, None, 0.3, 0.4],
    }  # fmt: skip
