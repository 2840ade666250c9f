import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ddpmkit.contracts import Scores
from ddpmkit.run_folder import RunFolder
from ddpmkit.run_log import RunLog
from ddpmkit.score_log import best_step, distinct_names, latest_scores, made_by_run, read_scores, series_key

IDENTITY = {"metric": {"use": "clean-fid", "version": "0.1.0", "config": {}}, "num_samples": 10, "reference": "abc"}


def scores(step: int, value: float = 1.0, **changes: Any) -> Scores:
    facts: dict[str, Any] = {"metric": "clean-fid", "protocol": "standard", "identity": IDENTITY, **changes}
    better: Any = facts.pop("better", {"fid": "lower"})
    return Scores(
        step, comparable=True, num_samples=10, num_reference=20, values={"fid": value}, floor={}, better=better, **facts
    )


def log_of(path: Path, *records: Scores) -> RunLog:
    log = RunFolder(path).log
    for record in records:
        log.append("scores", asdict(record))
    return log


def test_scores_are_read_sorted_by_step(tmp_path: Path) -> None:
    late, early, again = scores(20, 5.0), scores(10, 9.0, unusable={"x": "nan"}), scores(20, 4.0)
    assert read_scores(log_of(tmp_path, late, early, again)) == [early, late, again]


def test_the_latest_scores_are_those_of_the_last_step_written_last(tmp_path: Path) -> None:
    log = log_of(tmp_path, scores(20, 5.0), scores(20, 4.0), scores(10, 9.0))
    assert latest_scores(read_scores(log))["clean-fid"].values == {"fid": 4.0}


def test_a_line_of_an_earlier_version_is_read_as_a_score_of_the_run(tmp_path: Path) -> None:
    line = asdict(scores(20, 5.0))
    for name in ("unusable", "origin", "identity"):
        del line[name]
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"event": "scores", **line}) + "\n")
    (found,) = read_scores(RunFolder(tmp_path).log)
    assert (found.origin, found.identity, found.values) == ("run", {}, {"fid": 5.0})
    assert made_by_run([found]) == [found]


def test_a_line_that_is_not_a_score_is_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = log_of(tmp_path, scores(10))
    with log.path.open("a") as file:
        for line in ({"step": 20}, {**asdict(scores(20)), "values": "many"}, {**asdict(scores(30)), "identity": [1]}):
            file.write(json.dumps({"event": "scores", **line}) + "\n")
    with caplog.at_level(logging.WARNING):
        assert [each.step for each in read_scores(log)] == [10]
    assert "metrics.jsonl: " in caplog.text


@pytest.mark.parametrize(
    "metric",
    ["clean-fid", {"use": "clean-fid"}, *({**IDENTITY["metric"], key: 7} for key in ("use", "version", "config"))],  # type: ignore[dict-item]
)
def test_an_invalid_identity_and_nan_are_dropped(tmp_path: Path, metric: object) -> None:
    identity = {**IDENTITY, "metric": metric}
    line = {**asdict(scores(20)), "identity": identity, "values": {"fid": float("nan"), "kid": 1.0}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"event": "scores", **line}) + "\n")
    (found,) = read_scores(RunFolder(tmp_path).log)
    assert (found.identity, found.values) == ({}, {"kid": 1.0})


def test_scores_that_differ_only_in_step_and_values_are_one_series() -> None:
    first = scores(10)
    assert series_key(first) == series_key(scores(20, 3.0))
    for change in (
        {"identity": {**IDENTITY, "num_samples": 11}},
        {"identity": {**IDENTITY, "metric": {**IDENTITY["metric"], "config": {"size": 2}}}},  # type: ignore[dict-item]
        {"identity": {}},
    ):
        assert series_key(first) != series_key(scores(10, **change))
    old = scores(10, identity={}, facts={"sampler": "ddim, 5 steps", "floor": "a"})
    assert series_key(old) == series_key(scores(20, identity={}, facts={"sampler": "ddim, 5 steps", "floor": "b"}))
    assert series_key(old) != series_key(scores(20, identity={}, facts={"sampler": "ddim, 6 steps", "floor": "a"}))


@pytest.mark.parametrize(("better", "best"), [("lower", 20), ("higher", 10)])
def test_the_best_step_is_the_earliest_best_one_among_those_given(better: str, best: int) -> None:
    found = [
        scores(step, value, better={"fid": better}) for step, value in ((10, 9.0), (20, 4.0), (30, 4.0), (40, 1.0))
    ]
    assert best_step(found, "fid", [10, 20, 30]) == best
    assert best_step(found, "kid", [10, 20, 30]) is None
    assert best_step(found, "fid", []) is None


def test_a_metric_used_once_keeps_its_name_and_others_add_the_keys_that_differ() -> None:
    assert distinct_names([("fd", {"size": 3}), ("kid", {})]) == ["fd", "kid"]
    assert distinct_names([("fd", {"size": 3, "mean": [1]}), ("fd", {"size": 4, "mean": [1]})]) == [
        "fd[size=3]",
        "fd[size=4]",
    ]
    assert distinct_names([("fd", {}), ("fd", {"num_samples": 500})]) == ["fd", "fd[num_samples=500]"]
    # What a chart's name cannot hold is replaced, and what then looks alike is numbered; one evaluation has one name.
    assert distinct_names([("fd", {"e": "a/b:c"}), ("fd", {"e": "a b:c"}), ("fd", {"e": "a/b:c"})]) == [
        "fd[e=a_b_c]",
        "fd[e=a_b_c]#2",
        "fd[e=a_b_c]",
    ]
