import json
import math
import resource
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pytest

from ddpmkit.contracts import StepRecord
from ddpmkit.report.history import Series, read_history
from ddpmkit.run_folder import RunFolder
from ddpmkit.run_log import RunLog


def log(folder: Path, records: Iterable[StepRecord]) -> RunLog:
    lines = (json.dumps({"event": "step", **asdict(record)}) + "\n" for record in records)
    RunFolder(folder).metrics.write_text("".join(lines))
    return RunFolder(folder).log


def record(step: int, validation_loss: float | None = None) -> StepRecord:
    return StepRecord(step, 1 / step, (0.1 * step, None, 0.3, 0.4), 1.0, 1e-3, 50.0, validation_loss)


def test_a_history_contains_every_record_of_a_log(tmp_path: Path) -> None:
    history = read_history(log(tmp_path, [record(10), record(20, 0.25), record(30)]))
    assert history.step == 30
    assert history.last is not None
    assert history.last["loss"] == 1 / 30
    assert history.validation_loss == 0.25
    assert history.curves["loss"].points == [(10, 1 / 10), (20, 1 / 20), (30, 1 / 30)]
    assert history.curves["validation_loss"].points == [(20, 0.25)]
    assert [quarter.points for quarter in history.quarters[:2]] == [[(10, 1.0), (20, 2.0), (30, 3.0)], []]
    assert history.seconds(batch_size=4) == pytest.approx(30 * 4 / 50)


def test_a_log_without_records_is_an_empty_history(tmp_path: Path) -> None:
    history = read_history(RunFolder(tmp_path).log)
    assert (history.step, history.last, history.validation_loss, history.seconds(4)) == (0, None, None, 0.0)
    assert history.curves["loss"].points == []


def test_an_edited_log_is_sorted_by_step(tmp_path: Path) -> None:
    history = read_history(log(tmp_path, [record(30), record(10), record(20)]))
    assert [step for step, _ in history.curves["loss"].points] == [10, 20, 30]
    assert history.step == 30


@pytest.mark.parametrize("length", [0, 1, 3, 5])
def test_quarters_may_be_fewer_or_more(tmp_path: Path, length: int) -> None:
    odd = StepRecord(1, 0.5, (0.1,) * length, 1.0, 1e-3, 50.0)
    history = read_history(log(tmp_path, [odd]))
    assert [len(quarter.points) for quarter in history.quarters] == [int(number < length) for number in range(4)]


def test_thousands_of_points_are_not_averaged() -> None:
    series = Series()
    for step in range(1, 8001):
        series.add(step, float(step % 7))
    assert series.points == [(step, float(step % 7)) for step in range(1, 8001)]


def test_more_points_are_averaged_and_the_last_point_is_kept() -> None:
    series, count = Series(), 1_000_003
    for step in range(1, count):
        series.add(step, float(step))
    series.add(count, -5.0)
    points = series.points
    assert len(points) < 10_000
    assert points[-1] == (count, -5.0)
    # The mean of k neighbours that end at step s is s - (k - 1) / 2.
    each = points[0][0]
    assert all(value == step - (each - 1) / 2 for step, value in points[:-2])
    assert [step for step, _ in points] == sorted({step for step, _ in points})


def test_values_that_are_not_finite_are_skipped() -> None:
    series = Series()
    for step in range(1, 20_001):
        series.add(step, math.nan if step % 2 else 1.0)
    assert {value for _, value in series.points} == {1.0}


def test_a_million_records_need_constant_memory(tmp_path: Path) -> None:
    line = json.dumps({"event": "step", **asdict(record(7, 0.5))})
    head, tail = line.split('"step": 7')
    with RunFolder(tmp_path).metrics.open("w") as file:
        for step in range(1_000_000):
            file.write(f'{head}"step": {step}{tail}\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    history = read_history(RunFolder(tmp_path).log)
    assert history.step == 999_999
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
