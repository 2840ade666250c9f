import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddpmkit.checkpoint import newest_checkpoint, save_checkpoint
from ddpmkit.errors import RunFailed

Parts = Callable[..., dict[str, dict[str, torch.Tensor]]]


def test_a_saved_checkpoint_is_read_back_bit_for_bit(tmp_path: Path, lock: Path, parts: Parts) -> None:
    saved = parts(torch.pi)
    save_checkpoint(tmp_path / "checkpoints", 7, saved, lock)
    found = newest_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    assert found.step == 7
    assert found.path.name == "step-00000007"
    assert torch.equal(found.tensors("model")["weight"], saved["model"]["weight"])
    assert found.tensors("ema") == {}
    assert found.lock.read_text() == lock.read_text()


def test_a_checkpoint_contains_no_pickle_and_no_partial_folder_stays(tmp_path: Path, lock: Path, parts: Parts) -> None:
    saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    assert {file.suffix for file in saved.path.iterdir()} == {".safetensors", ".json", ".toml"}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000007"]


def test_a_failed_save_leaves_nothing(tmp_path: Path, lock: Path, parts: Parts) -> None:
    lock.unlink()
    with pytest.raises(RunFailed, match="could not be written"):
        save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077], ids=oct)
def test_the_mode_of_a_checkpoint_follows_the_umask(tmp_path: Path, lock: Path, parts: Parts, umask: int) -> None:
    before = os.umask(umask)
    try:
        saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in saved.path.iterdir()}
    assert len(modes) == 4
    assert set(modes.values()) == {0o666 & ~umask}
    assert stat.S_IMODE(saved.path.stat().st_mode) == 0o777 & ~umask
