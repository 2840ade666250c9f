import csv
import math
import os
from pathlib import Path
from typing import Any

import pytest

from ddpmkit.contracts import RunEnded, RunStarted, Scores, StepRecord
from ddpmkit.errors import InputError
from ddpmkit.plugin import ComponentConfig
from ddpmkit_plugins.csv_tracker.tracker import CsvTracker


def started(folder: Path, first_step: int = 0) -> CsvTracker:
    tracker = CsvTracker(ComponentConfig(), run_folder=folder)
    tracker.run_started(RunStarted("cats", folder, {}, 10, first_step, 100))
    return tracker


def record(step: int, **values: Any) -> StepRecord:
    return StepRecord(step, 1 / step, (0.4, 0.3, None, 0.1), 0.5, 1e-5, 100.0, **values)


def scores(step: int, metric: str = "clean-fid", **values: Any) -> Scores:
    facts: dict[str, Any] = {"protocol": "standard", "values": {"fid": 94.66, "kid": -0.002}, "floor": {"fid": 3.5}}
    return Scores(
        step, metric, comparable=True, num_samples=10, num_reference=20, better={"fid": "lower"}, **facts | values
    )


def a_run(folder: Path, first_step: int, last_step: int) -> None:
    """Records every 10 steps, scores every 20; a resumed run sends the scores of its first step again."""
    tracker = started(folder, first_step)
    if first_step and first_step % 20 == 0:
        tracker.scores(scores(first_step))
    for step in range(first_step + 10, last_step + 1, 10):
        tracker.step(record(step))
        if step % 20 == 0:
            tracker.scores(scores(step))
    tracker.run_ended(RunEnded(last_step, "finished"))


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened, strict=True))


def test_a_record_is_a_row_of_plain_numbers(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    tracker.step(record(3, validation_loss=0.25))
    tracker.step(record(7))
    first, second = rows(tmp_path / "metrics.csv")
    assert float(first["loss"]) == 1 / 3  # to the last bit
    assert first == {
        "step": "3",
        "loss": repr(1 / 3),
        "validation_loss": "0.25",
        "gradient_norm": "0.5",
        "learning_rate": "1e-05",
        "images_per_second": "100.0",
        "loss_t_q1": "0.4",
        "loss_t_q2": "0.3",
        "loss_t_q3": "",
        "loss_t_q4": "0.1",
    }
    assert (second["step"], second["validation_loss"]) == ("7", "")


def test_a_score_is_a_row_with_its_floor_and_its_rules(tmp_path: Path) -> None:
    started(tmp_path).scores(scores(20))
    fid, kid = rows(tmp_path / "scores.csv")
    assert fid == {
        "step": "20",
        "metric": "clean-fid",
        "score": "fid",
        "value": "94.66",
        "floor": "3.5",
        "better": "lower",
        "protocol": "standard",
        "comparable": "yes",
        "num_samples": "10",
        "num_reference": "20",
    }
    assert (kid["score"], kid["value"], kid["floor"], kid["better"]) == ("kid", "-0.002", "", "")


def test_both_tables_exist_from_the_start(tmp_path: Path) -> None:
    started(tmp_path)
    assert {path.name: rows(path) for path in tmp_path.iterdir()} == {"metrics.csv": [], "scores.csv": []}


@pytest.mark.parametrize("resumed_at", [0, 15, 20, 40, 60])
def test_a_resumed_run_writes_the_tables_of_an_uninterrupted_one(tmp_path: Path, resumed_at: int) -> None:
    for folder in ("broken", "uninterrupted"):
        (tmp_path / folder).mkdir()
    a_run(tmp_path / "uninterrupted", 0, 100)
    a_run(tmp_path / "broken", 0, 60)
    tracker = started(tmp_path / "broken", resumed_at)
    if resumed_at and resumed_at % 20 == 0:
        tracker.scores(scores(resumed_at))
    for step in range(resumed_at // 10 * 10 + 10, 101, 10):
        tracker.step(record(step))
        if step % 20 == 0:
            tracker.scores(scores(step))
    for name in ("metrics.csv", "scores.csv"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "uninterrupted" / name).read_bytes()


def test_an_incomplete_row_is_dropped(tmp_path: Path) -> None:
    a_run(tmp_path, 0, 40)
    before = (tmp_path / "metrics.csv").read_bytes()
    with (tmp_path / "metrics.csv").open("ab") as file:
        file.write(b"5,0.0")
    started(tmp_path, 40)
    assert (tmp_path / "metrics.csv").read_bytes() == before


@pytest.mark.parametrize("left", [0, 7])
def test_an_incomplete_header_is_written_again(tmp_path: Path, left: int) -> None:
    (tmp_path / "metrics.csv").write_bytes(b"step,loss"[:left])
    started(tmp_path).step(record(1))
    assert [row["step"] for row in rows(tmp_path / "metrics.csv")] == ["1"]


def test_a_rollback_removes_the_rows_after_its_checkpoint(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    for step in (10, 20, 30, 40):
        tracker.step(record(step))
        tracker.scores(scores(step))
    tracker.step(record(30))
    assert [row["step"] for row in rows(tmp_path / "metrics.csv")] == ["10", "20", "30"]
    assert {row["step"] for row in rows(tmp_path / "scores.csv")} == {"10", "20"}


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("http://x";"y")', " =1", "\u00a0=1"]
)
def test_no_text_is_a_formula(tmp_path: Path, text: str) -> None:
    started(tmp_path).scores(scores(20, metric=text, protocol=text, values={text: 1.5}, floor={}))
    (row,) = rows(tmp_path / "scores.csv")
    for column in ("metric", "score", "protocol"):
        assert row[column].startswith("'")
        assert row[column][1:].strip() == text.strip()
    assert row["value"] == "1.5"


def test_a_row_is_always_one_line(tmp_path: Path) -> None:
    text = 'a,b;"c"\r\n7,\u2028d\x00\x85'
    started(tmp_path).scores(scores(20, protocol=text, values={"fid": 1.0}))
    assert (tmp_path / "scores.csv").read_bytes().count(b"\n") == 2
    (row,) = rows(tmp_path / "scores.csv")
    assert row["protocol"] == 'a,b;"c"  7, d  '


def test_nan_and_infinity_are_written_as_text(tmp_path: Path) -> None:
    started(tmp_path).scores(scores(20, values={"fid": math.nan, "is": -math.inf}))
    assert [row["value"] for row in rows(tmp_path / "scores.csv")] == ["nan", "-inf"]


@pytest.mark.parametrize("content", ["name,price\ntea,3\n", "step,loss\r\n10,0.1\r\n"])
def test_a_table_of_another_program_is_not_changed(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.csv").write_bytes(content.encode())
    with pytest.raises(InputError, match=r"metrics\.csv was not written by this tracker"):
        started(tmp_path, 10)
    assert (tmp_path / "metrics.csv").read_bytes() == content.encode()


def test_an_edited_table_is_not_changed(tmp_path: Path) -> None:
    a_run(tmp_path, 0, 20)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("mean,0.1\n")
    with pytest.raises(InputError, match="or was edited"):
        started(tmp_path, 20)
    assert rows(tmp_path / "metrics.csv")[-1]["step"] == "mean"


@pytest.mark.parametrize("kind", ["a link", "a pipe", "a folder"])
def test_a_table_that_is_not_a_file_is_an_error(tmp_path: Path, kind: str) -> None:
    table, outside = tmp_path / "run" / "metrics.csv", tmp_path / "outside.csv"
    table.parent.mkdir()
    started(tmp_path)
    (tmp_path / "metrics.csv").rename(outside)
    before = outside.read_bytes()
    {"a link": lambda: table.symlink_to(outside), "a pipe": lambda: os.mkfifo(table)}.get(kind, table.mkdir)()
    with pytest.raises(InputError, match=r"metrics\.csv is not a file"):
        started(tmp_path / "run")
    assert outside.read_bytes() == before


def test_a_name_that_is_not_text_is_escaped(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    tracker.scores(scores(10, metric="caf\udce9"))
    tracker.scores(scores(20))
    assert [row["metric"] for row in rows(tmp_path / "scores.csv")] == ["caf\\udce9"] * 2 + ["clean-fid"] * 2
