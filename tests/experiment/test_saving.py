import itertools
import json
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor

import ddpmkit
from ddpmkit.checkpoint import checkpoint_folders, newest_checkpoint, open_checkpoint, step_of
from ddpmkit.contracts import MetricProtocol
from ddpmkit.display import SilentDisplay
from ddpmkit.errors import InputError, RunFailed
from ddpmkit.experiment.retention import check_space, superseded
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import TrainSection

Recipe = Callable[..., dict[str, Any]]


class Listening(SilentDisplay):
    def __init__(self) -> None:
        self.remarks: list[str] = []

    def message(self, text: str) -> None:
        self.remarks.append(text)


def steps_kept(folder: Path) -> list[int]:
    return sorted(step_of(path) for path in checkpoint_folders(folder / "checkpoints"))


@pytest.mark.parametrize(
    ("settings", "best", "gone"),
    [
        ({"keep_last": 0}, None, []),
        ({"keep_last": 1}, None, [1, 2, 3, 4, 5]),
        ({"keep_last": 2, "keep_every": 3}, None, [1, 2, 4]),
        ({"keep_last": 1, "keep_every": 2}, 1, [3, 5]),
        ({"keep_last": 9}, None, []),
    ],
)
def test_what_is_superseded(settings: dict[str, int], best: int | None, gone: list[int]) -> None:
    assert superseded([1, 2, 3, 4, 5, 6], TrainSection(**settings), best) == gone  # type: ignore[arg-type]


def test_a_run_that_may_roll_back_keeps_what_it_would_have_had_without_a_stop_and_the_stop() -> None:
    settings = TrainSection(keep_last=2, on_nonfinite="rollback")
    assert superseded([5, 7, 10, 12, 15], settings, None, lambda step: step % 5 == 0) == [5, 7, 12]
    assert superseded([5, 7, 10, 12], settings, None, lambda step: step % 5 == 0) == [7]
    assert superseded([5, 7], settings, None, lambda step: step % 5 == 0) == []


def test_the_newest_and_every_nth_are_kept(small: Recipe, tmp_path: Path) -> None:
    ddpmkit.run(small(train={"steps": 11, "checkpoint_every": 1, "keep_last": 2, "keep_every": 4}), tmp_path)
    assert steps_kept(tmp_path) == [4, 8, 10, 11]
    assert {path.name[:5] for path in (tmp_path / "checkpoints").iterdir()} == {"step-"}


def test_checkpoints_that_a_killed_process_would_have_removed_go_when_the_finished_run_is_given_again(
    small: Recipe, tmp_path: Path
) -> None:
    recipe = small(train={"steps": 4, "checkpoint_every": 1, "keep_last": 2})
    ddpmkit.run(recipe, tmp_path)
    assert steps_kept(tmp_path) == [3, 4]
    shutil.copytree(tmp_path / "checkpoints" / "step-00000003", tmp_path / "checkpoints" / "step-00000002")
    ddpmkit.run(recipe, tmp_path)
    assert steps_kept(tmp_path) == [3, 4]


class Dip:
    """A score that is best at the third evaluation."""

    better: ClassVar = {"depth": "lower", "height": "higher"}
    protocol = MetricProtocol("plain", num_samples=4, weights="ema", comparable=True)
    taken: ClassVar = itertools.count(1)

    def __init__(self, config: ComponentConfig, *, device: torch.device) -> None:
        type(self).taken = itertools.count(1)

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        return {"count": torch.tensor(len(images), dtype=torch.float64)}

    measure_generated = measure_real

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"count": first["count"] + second["count"]}

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        depth = abs(3 - next(self.taken)) if real["count"] != generated["count"] else 0
        return {"depth": float(depth), "height": float(depth)}


@pytest.mark.parametrize(("score", "kept"), [("depth", [6, 10]), ("height", [2, 10])])
def test_the_best_is_kept_whatever_the_interval(
    small: Recipe, with_parts: Callable[..., Registry], tmp_path: Path, score: str, kept: list[int]
) -> None:
    dip = Component(kind="metric", name="dip", target=f"{__name__}:Dip", summary="dips")
    recipe = small(train={"steps": 10, "keep_last": 1, "keep_best": score}, metric=[{"use": "local/dip", "every": 2}])
    ddpmkit.run(recipe, tmp_path, registry=with_parts(dip))
    values = [record["values"]["depth"] for record in lines(tmp_path) if record["event"] == "scores"]
    assert min(values) == values[2]
    assert steps_kept(tmp_path) == kept


def test_a_last_checkpoint_that_is_the_best_takes_the_place_of_the_best_before(
    small: Recipe, with_parts: Callable[..., Registry], tmp_path: Path
) -> None:
    dip = Component(kind="metric", name="dip", target=f"{__name__}:Dip", summary="dips")
    train = {"steps": 12, "keep_last": 1, "keep_best": "height"}
    recipe = small(train=train, metric=[{"use": "local/dip", "every": 2}])
    ddpmkit.run(recipe, tmp_path, registry=with_parts(dip))
    assert [record["values"]["height"] for record in lines(tmp_path) if record["event"] == "scores"][-1] == 3
    assert steps_kept(tmp_path) == [12]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_space_for_two_checkpoints_is_asked_for_and_for_more_is_wished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(0, 0, free))
    settings = TrainSection(keep_last=3)
    one = 4 * 4 * 1_000_000  # weights, their average and two moments, in float32
    free = 2 * one - 1
    with pytest.raises(InputError, match="a checkpoint takes 16 MB, and two must fit"):
        check_space(tmp_path, 1_000_000, settings)
    free = 4 * one - 1
    assert "checkpoints may take 64 MB" in str(check_space(tmp_path, 1_000_000, settings))
    free = 4 * one
    assert check_space(tmp_path, 1_000_000, settings) is None
    # Three averages more in each of four checkpoints, and two of them in each of ten snapshots.
    many = TrainSection(keep_last=3, ema_decays=(0.9,), ema_sigma_rels=(0.05, 0.1), steps=10_000)
    free = 4 * (4 * 7 + 10 * 2) * 1_000_000 - 1
    assert "checkpoints may take 192 MB" in str(check_space(tmp_path, 1_000_000, many))
    free += 1
    assert check_space(tmp_path, 1_000_000, many) is None


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in found]


def full_disk_before_step(run: Path, first: int, last: int = 10**9) -> Callable[[], bool]:
    """A `stop` that never stops: from before step `first` until before step `last`, the disk takes nothing."""
    asked = itertools.count(1)

    def stop() -> bool:
        step = next(asked)
        while step == first and first - 2 not in steps_kept(run):
            time.sleep(0.01)  # it is written while training goes on
        if step in (first, last):
            limit = 50 if step == first else resource.RLIM_INFINITY
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return False

    return stop


def test_a_disk_that_is_full_for_a_while_costs_nothing(small: Recipe, tmp_path: Path) -> None:
    recipe, listening = small(train={"checkpoint_every": 2, "keep_last": 0}), Listening()
    ddpmkit.run(recipe, tmp_path / "straight")
    ddpmkit.run(recipe, tmp_path / "run", stop=full_disk_before_step(tmp_path / "run", 6, 8), display=listening)
    assert lines(tmp_path / "run") == lines(tmp_path / "straight")
    assert steps_kept(tmp_path / "run") == [2, 4, 8, 10, 12, 14, 16, 18, 20]
    (told,) = (
        remark for remark in listening.remarks if "could not be written" in remark or "cannot be written" in remark
    )
    assert told.endswith("It is tried again at the next interval.")
    for part in ("model", "ema", "optimizer"):
        one, two = (
            open_checkpoint(tmp_path / run / "checkpoints" / "step-00000020").tensors(part)
            for run in ("run", "straight")
        )
        assert all(torch.equal(one[key], two[key]) for key in two)


def test_a_disk_that_stays_full_stops_the_run_and_the_last_checkpoint_stays(small: Recipe, tmp_path: Path) -> None:
    recipe = small(train={"checkpoint_every": 2})
    with pytest.raises(RunFailed, match="cannot be written: File too large") as caught:
        ddpmkit.run(recipe, tmp_path / "run", stop=full_disk_before_step(tmp_path / "run", 6))
    assert "free some space" in str(caught.value)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    found = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert found.step == 4
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    ddpmkit.run(recipe, tmp_path / "run")
    ddpmkit.run(recipe, tmp_path / "straight")
    assert lines(tmp_path / "run") == lines(tmp_path / "straight")


def test_a_checkpoint_that_does_not_fit_leaves_nothing_half_written(small: Recipe, tmp_path: Path) -> None:
    """The log is taken, the tensors are not."""
    asked = itertools.count(1)

    def stop() -> bool:
        if next(asked) == 4:
            while steps_kept(tmp_path) != [2]:  # it is written while training goes on
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        return False

    with pytest.raises(RunFailed, match="step-00000006 could not be written"):
        ddpmkit.run(small(train={"checkpoint_every": 2, "log_every": 20}), tmp_path, stop=stop)
    assert steps_kept(tmp_path) == [2]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]


def test_what_a_killed_save_left_is_cleared_away(small: Recipe, tmp_path: Path) -> None:
    ddpmkit.run(small(train={"steps": 2}), tmp_path)
    for name in (".step-00000009.partial", ".step-00000001.removed"):
        (tmp_path / "checkpoints" / name).mkdir()
        (tmp_path / "checkpoints" / name / "model.safetensors").write_bytes(b"half")
    ddpmkit.run(small(train={"steps": 3}), tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000002", "step-00000003"]
