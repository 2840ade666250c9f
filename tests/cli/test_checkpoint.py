from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from ddpmkit.checkpoint import save_checkpoint
from ddpmkit.cli import main


def verify(path: Path) -> Result:
    return CliRunner().invoke(main, ["checkpoint", "verify", str(path)])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    lock = tmp_path / "recipe.lock.toml"
    lock.write_text("")
    for step in (1, 2):
        save_checkpoint(tmp_path / "checkpoints", step, {"model": {"weight": torch.ones(3)}}, lock)
    return tmp_path


def test_undamaged_checkpoints_are_intact(run: Path) -> None:
    result = verify(run)
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["step-00000002", "intact"],
        ["step-00000001", "intact"],
    ]


def test_a_damaged_checkpoint_is_named_and_not_moved(run: Path) -> None:
    file = run / "checkpoints" / "step-00000002" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    result = verify(run)
    assert result.exit_code == 1
    assert "model.safetensors is damaged" in result.stdout
    assert file.exists()
    assert verify(run / "checkpoints" / "step-00000001").exit_code == 0
    assert verify(run / "checkpoints" / "step-00000002").exit_code == 1


def test_snapshots_are_verified_too(run: Path) -> None:
    snapshot = save_checkpoint(run / "snapshots", 1, {"ema": {"weight": torch.ones(3)}}, run / "recipe.lock.toml").path
    assert verify(run).stdout.splitlines()[2].split() == ["snapshots/step-00000001", "intact"]
    (snapshot / "ema.safetensors").write_bytes(b"")
    assert verify(run).exit_code == 1


def test_a_folder_without_checkpoints_exits_2(tmp_path: Path) -> None:
    result = verify(tmp_path)
    assert result.exit_code == 2
    assert "contains no checkpoint" in result.stderr
