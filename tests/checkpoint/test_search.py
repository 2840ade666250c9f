import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddpmkit.checkpoint import (
    checkpoint_folders,
    newest_checkpoint,
    remove_checkpoint,
    resumable_checkpoint,
    save_checkpoint,
)
from ddpmkit.errors import InputError

Parts = Callable[..., dict[str, dict[str, torch.Tensor]]]


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json", "recipe.lock.toml"])
def test_the_newest_intact_checkpoint_is_resumed_and_a_damaged_one_is_moved_aside(
    tmp_path: Path, lock: Path, parts: Parts, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoints"
    save_checkpoint(folder, 7, parts(7), lock)
    newer = save_checkpoint(folder, 8, parts(8), lock)
    (newer.path / name).unlink()
    with caplog.at_level(logging.WARNING):
        found = resumable_checkpoint(folder)
    assert found is not None
    assert found.step == 7
    assert "step-00000008.damaged" in caplog.text
    assert not newer.path.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json", "recipe.lock.toml"])
def test_a_reader_skips_a_damaged_checkpoint_and_changes_nothing(
    tmp_path: Path, lock: Path, parts: Parts, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoints"
    save_checkpoint(folder, 7, parts(7), lock)
    newer = save_checkpoint(folder, 8, parts(8), lock)
    (newer.path / name).unlink()
    before = sorted(tmp_path.rglob("*"))
    found = newest_checkpoint(folder)
    assert found is not None
    assert found.step == 7
    assert "step-00000008" in caplog.text
    assert sorted(tmp_path.rglob("*")) == before


def test_a_reader_finds_a_checkpoint_that_a_killed_save_had_moved_aside(
    tmp_path: Path, lock: Path, parts: Parts
) -> None:
    saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    aside = saved.path.rename(saved.path.with_name("step-00000007.replaced"))
    found = newest_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    assert (found.path, found.step) == (aside, 7)
    resumed = resumable_checkpoint(tmp_path / "checkpoints")
    assert resumed is not None
    assert resumed.path == saved.path


def test_an_opened_checkpoint_stays_readable_after_the_run_removes_it(tmp_path: Path, lock: Path, parts: Parts) -> None:
    saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(torch.pi), lock)
    found = newest_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    remove_checkpoint(saved.path)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert torch.equal(found.tensors("model")["weight"], parts(torch.pi)["model"]["weight"])
    assert (found.has("optimizer"), found.has("ema"), found.tensors("ema")) == (True, False, {})
    assert found.lock_content == lock.read_bytes()


def test_a_reader_finds_an_intact_checkpoint_during_saves_and_removals(
    tmp_path: Path, lock: Path, parts: Parts
) -> None:
    folder, done = tmp_path / "checkpoints", threading.Event()
    save_checkpoint(folder, 1, parts(1), lock)

    def rotate() -> None:
        for step in range(2, 10_000):
            save_checkpoint(folder, step, parts(step), lock)
            save_checkpoint(folder, step, parts(step), lock)  # again, as a resume at this step does
            remove_checkpoint(folder / f"step-{step - 1:08d}")
            if done.is_set():
                return

    run = threading.Thread(target=rotate)
    run.start()
    steps: list[int] = []
    try:
        while len(set(steps)) < 20:
            found = newest_checkpoint(folder)
            assert found is not None
            assert (found.tensors("model")["weight"] == found.step).all()
            steps.append(found.step)
    finally:
        done.set()
        run.join()
    assert steps == sorted(steps)
    assert len(list(folder.iterdir())) == 1


def test_no_intact_checkpoint_is_an_error_and_not_a_new_start(tmp_path: Path, lock: Path, parts: Parts) -> None:
    saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    (saved.path / "model.safetensors").write_bytes(b"")
    for find in (newest_checkpoint, resumable_checkpoint):
        with pytest.raises(InputError, match=r"none of the 1 checkpoints.*model\.safetensors is damaged"):
            find(tmp_path / "checkpoints")


def test_checkpoints_are_sorted_by_step_newest_first(tmp_path: Path, lock: Path, parts: Parts) -> None:
    for step in (9, 100_000_000, 10):
        save_checkpoint(tmp_path / "checkpoints", step, parts(), lock)
    assert [int(path.name[5:]) for path in checkpoint_folders(tmp_path / "checkpoints")] == [100_000_000, 10, 9]
