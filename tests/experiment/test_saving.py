import itertools
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import step_records

import ddpmkit
from ddpmkit.checkpoint import checkpoint_folders, newest_checkpoint, open_checkpoint, step_of
from ddpmkit.display import SilentDisplay
from ddpmkit.errors import RunFailed

Recipe = Callable[..., dict[str, Any]]


class MessageRecorder(SilentDisplay):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def saved_steps(folder: Path) -> list[int]:
    return sorted(step_of(path) for path in checkpoint_folders(folder / "checkpoints"))


def full_disk_before_step(run: Path, first: int, last: int = 10**9) -> Callable[[], bool]:
    """A `stop` that never stops, but makes the disk full before step `first` and frees it before step `last`."""
    asked = itertools.count(1)

    def stop() -> bool:
        step = next(asked)
        while step == first and first - 2 not in saved_steps(run):
            time.sleep(0.01)  # it is written while training continues
        if step in (first, last):
            limit = 50 if step == first else resource.RLIM_INFINITY
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return False

    return stop


def test_a_temporarily_full_disk_has_no_effect(small: Recipe, tmp_path: Path) -> None:
    recipe, recorder = small(train={"checkpoint_every": 2, "keep_last": 0}), MessageRecorder()
    ddpmkit.run(recipe, tmp_path / "straight")
    ddpmkit.run(recipe, tmp_path / "run", stop=full_disk_before_step(tmp_path / "run", 6, 8), display=recorder)
    assert step_records(tmp_path / "run") == step_records(tmp_path / "straight")
    assert saved_steps(tmp_path / "run") == [2, 4, 8, 10, 12, 14, 16, 18, 20]
    (message,) = (text for text in recorder.messages if "could not be written" in text or "cannot be written" in text)
    assert message.endswith("It is tried again at the next interval.")
    for part in ("model", "ema", "optimizer"):
        one, two = (
            open_checkpoint(tmp_path / run / "checkpoints" / "step-00000020").tensors(part)
            for run in ("run", "straight")
        )
        assert all(torch.equal(one[key], two[key]) for key in two)


def test_a_full_disk_stops_the_run_and_the_last_checkpoint_stays(small: Recipe, tmp_path: Path) -> None:
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
    assert step_records(tmp_path / "run") == step_records(tmp_path / "straight")


def test_a_checkpoint_that_does_not_fit_leaves_no_partial_files(small: Recipe, tmp_path: Path) -> None:
    """The log can be written, the tensors cannot."""
    asked = itertools.count(1)

    def stop() -> bool:
        if next(asked) == 4:
            while saved_steps(tmp_path) != [2]:  # it is written while training continues
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        return False

    with pytest.raises(RunFailed, match="step-00000006 could not be written"):
        ddpmkit.run(small(train={"checkpoint_every": 2, "log_every": 20}), tmp_path, stop=stop)
    assert saved_steps(tmp_path) == [2]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]


def test_files_that_a_killed_save_left_are_removed(small: Recipe, tmp_path: Path) -> None:
    ddpmkit.run(small(train={"steps": 2}), tmp_path)
    for name in (".step-00000009.partial", ".step-00000001.removed"):
        (tmp_path / "checkpoints" / name).mkdir()
        (tmp_path / "checkpoints" / name / "model.safetensors").write_bytes(b"half")
    ddpmkit.run(small(train={"steps": 3}), tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000002", "step-00000003"]
