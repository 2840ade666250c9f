import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddpmkit.checkpoint import checkpoint_folders, clear_leftovers, open_checkpoint, remove_checkpoint, save_checkpoint

Parts = Callable[..., dict[str, dict[str, torch.Tensor]]]


@pytest.mark.parametrize("name", ["notes.txt", "mine/notes.txt", "model.safetensors/notes.txt"])
def test_a_checkpoint_with_other_files_is_not_removed(tmp_path: Path, lock: Path, parts: Parts, name: str) -> None:
    saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    if name.startswith("model"):
        (saved.path / "model.safetensors").unlink()
    (saved.path / name).parent.mkdir(exist_ok=True)
    (saved.path / name).write_text("mine")
    remove_checkpoint(saved.path)
    assert (tmp_path / "checkpoints" / "step-00000007.kept" / name).read_text() == "mine"
    assert checkpoint_folders(tmp_path / "checkpoints") == []


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda path: path.symlink_to(path.name)])
def test_a_file_with_the_name_of_a_checkpoint_is_not_removed(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "step-00000007")
    remove_checkpoint(tmp_path / "step-00000007")
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000007.kept"]


def test_a_link_to_a_checkpoint_is_not_followed_when_it_is_removed(tmp_path: Path, lock: Path, parts: Parts) -> None:
    saved = save_checkpoint(tmp_path / "elsewhere", 7, parts(), lock)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000007").symlink_to(saved.path)
    remove_checkpoint(tmp_path / "checkpoints" / "step-00000007")
    open_checkpoint(saved.path)


def test_leftovers_are_removed_and_a_replaced_checkpoint_stays_until_the_new_one_is_intact(
    tmp_path: Path, lock: Path, parts: Parts
) -> None:
    folder = tmp_path / "checkpoints"
    for step in (7, 8, 9):
        old = save_checkpoint(folder, step, parts(step), lock).path
        old.rename(old.with_name(f"{old.name}.replaced"))
    save_checkpoint(folder, 7, parts(70), lock)
    damaged = save_checkpoint(folder, 8, parts(80), lock)
    (damaged.path / "model.safetensors").unlink()
    (folder / ".step-00000010.partial").mkdir()
    (folder / ".step-00000004.removed").mkdir()
    clear_leftovers(folder)
    found = sorted(path.name for path in folder.iterdir())
    assert found == ["step-00000007", "step-00000008", "step-00000008.replaced", "step-00000009"]
    value = {
        name: float(open_checkpoint(folder / name).tensors("model")["weight"].max()) for name in (found[0], found[3])
    }
    assert value == {"step-00000007": 70, "step-00000009": 9}
