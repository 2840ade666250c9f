"""Which checkpoints stay, and the disk space that they need."""

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor

import ddpmkit
from ddpmkit.checkpoint import checkpoint_folders, step_of
from ddpmkit.contracts import MetricProtocol
from ddpmkit.errors import InputError
from ddpmkit.experiment.retention import check_space, checkpoints_to_remove
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import TrainSection

Recipe = Callable[..., dict[str, Any]]


def saved_steps(folder: Path) -> list[int]:
    return sorted(step_of(path) for path in checkpoint_folders(folder / "checkpoints"))


def values(folder: Path, score: str) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["values"][score] for line in lines if line["event"] == "scores"]


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
def test_superseded_checkpoints(settings: dict[str, int], best: int | None, gone: list[int]) -> None:
    assert checkpoints_to_remove([1, 2, 3, 4, 5, 6], TrainSection(**settings), best) == gone  # type: ignore[arg-type]


def test_a_run_that_may_roll_back_keeps_the_newest_and_the_regular_checkpoints() -> None:
    settings = TrainSection(keep_last=2, on_nonfinite="rollback")
    assert checkpoints_to_remove([5, 7, 10, 12, 15], settings, None, lambda step: step % 5 == 0) == [5, 7, 12]
    assert checkpoints_to_remove([5, 7, 10, 12], settings, None, lambda step: step % 5 == 0) == [7]
    assert checkpoints_to_remove([5, 7], settings, None, lambda step: step % 5 == 0) == []


def test_the_newest_and_every_nth_checkpoint_are_kept(small: Recipe, tmp_path: Path) -> None:
    ddpmkit.run(small(train={"steps": 11, "checkpoint_every": 1, "keep_last": 2, "keep_every": 4}), tmp_path)
    assert saved_steps(tmp_path) == [4, 8, 10, 11]
    assert {path.name[:5] for path in (tmp_path / "checkpoints").iterdir()} == {"step-"}


def test_superseded_checkpoints_that_a_killed_process_left_are_removed(small: Recipe, tmp_path: Path) -> None:
    recipe = small(train={"steps": 4, "checkpoint_every": 1, "keep_last": 2})
    ddpmkit.run(recipe, tmp_path)
    assert saved_steps(tmp_path) == [3, 4]
    shutil.copytree(tmp_path / "checkpoints" / "step-00000003", tmp_path / "checkpoints" / "step-00000002")
    ddpmkit.run(recipe, tmp_path)
    assert saved_steps(tmp_path) == [3, 4]


class Dip:
    """A metric whose score is best at the third evaluation."""

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
def test_the_best_checkpoint_is_kept_at_any_interval(
    small: Recipe, with_parts: Callable[..., Registry], tmp_path: Path, score: str, kept: list[int]
) -> None:
    dip = Component(kind="metric", name="dip", target=f"{__name__}:Dip", summary="dips")
    recipe = small(train={"steps": 10, "keep_last": 1, "keep_best": score}, metric=[{"use": "local/dip", "every": 2}])
    ddpmkit.run(recipe, tmp_path, registry=with_parts(dip))
    depths = values(tmp_path, "depth")
    assert min(depths) == depths[2]
    assert saved_steps(tmp_path) == kept


def test_a_last_checkpoint_that_is_the_best_replaces_the_former_best(
    small: Recipe, with_parts: Callable[..., Registry], tmp_path: Path
) -> None:
    dip = Component(kind="metric", name="dip", target=f"{__name__}:Dip", summary="dips")
    train = {"steps": 12, "keep_last": 1, "keep_best": "height"}
    recipe = small(train=train, metric=[{"use": "local/dip", "every": 2}])
    ddpmkit.run(recipe, tmp_path, registry=with_parts(dip))
    assert values(tmp_path, "height")[-1] == 3
    assert saved_steps(tmp_path) == [12]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_too_little_space_for_two_checkpoints_is_an_error_and_for_all_a_warning(
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
    # Three more averages in each of four checkpoints, and two averages in each of ten snapshots.
    many = TrainSection(keep_last=3, ema_decays=(0.9,), ema_sigma_rels=(0.05, 0.1), steps=10_000)
    free = 4 * (4 * 7 + 10 * 2) * 1_000_000 - 1
    assert "checkpoints may take 192 MB" in str(check_space(tmp_path, 1_000_000, many))
    free += 1
    assert check_space(tmp_path, 1_000_000, many) is None
