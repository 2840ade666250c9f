"""Snapshots of averages: which are written, and what is mixed from them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ddpmkit
from ddpmkit.checkpoint import checkpoint_folders, newest_checkpoint, open_checkpoint, save_checkpoint, step_of
from ddpmkit.errors import InputError, RunFailed
from ddpmkit.experiment.ema_snapshots import Snapshots

Recipe = Callable[..., dict[str, Any]]
AVERAGES = {"ema_decays": [0.5], "ema_sigma_rels": [0.05, 0.1]}


def snapshots(folder: Path) -> list[int]:
    return sorted(map(step_of, checkpoint_folders(folder / "snapshots")))


def tensors(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Every part of the newest checkpoint and of every snapshot."""
    newest = newest_checkpoint(folder / "checkpoints")
    assert newest is not None
    found = [newest, *map(open_checkpoint, checkpoint_folders(folder / "snapshots"))]
    return {
        f"{item.path.relative_to(folder)}/{file.stem}": item.tensors(file.stem)
        for item in found
        for file in sorted(item.path.glob("*.safetensors"))
    }


def test_a_resumed_run_has_the_averages_and_snapshots_of_an_uninterrupted_one(small: Recipe, tmp_path: Path) -> None:
    recipe = small(train={"steps": 12, "checkpoint_every": 5, "ema_snapshot_every": 4, "keep_last": 1, **AVERAGES})
    ddpmkit.run(recipe, tmp_path / "straight")
    calls = iter(range(1000))
    ddpmkit.run(recipe, tmp_path / "resumed", stop=lambda: next(calls) == 9)
    assert snapshots(tmp_path / "resumed") == [4, 8]
    ddpmkit.run(recipe, tmp_path / "resumed")
    straight, resumed = tensors(tmp_path / "straight"), tensors(tmp_path / "resumed")
    assert snapshots(tmp_path / "straight") == [4, 8, 12]
    assert "checkpoints/step-00000012/model" in straight
    assert straight.keys() == resumed.keys()
    assert {name.rpartition("/")[2] for name in straight} == {
        *("model", "optimizer", "progress", "ema", "ema-decay-0.5", "ema-sigma_rel-0.05", "ema-sigma_rel-0.1")
    }
    for part, expected in straight.items():
        assert expected.keys() == resumed[part].keys()
        assert all(torch.equal(value, resumed[part][name]) for name, value in expected.items()), part


@pytest.mark.parametrize("step", [4, 8, 12])
def test_a_snapshot_that_could_not_be_written_is_written_before_the_next_checkpoint(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    recipe = small(train={"steps": 12, "checkpoint_every": 5, "ema_snapshot_every": 4, "keep_last": 1, **AVERAGES})
    ddpmkit.run(recipe, tmp_path / "straight")
    written: list[str] = []

    def save(parent: Path, at: int, *rest: Any) -> Any:
        if parent.name == "snapshots" and at == step and f"snapshots {step} failed" not in written:
            written.append(f"snapshots {step} failed")
            raise RunFailed("no space left.")
        written.append(f"{parent.name} {at}")
        return save_checkpoint(parent, at, *rest)

    monkeypatch.setattr("ddpmkit.experiment.saving.save_checkpoint", save)
    ddpmkit.run(recipe, tmp_path / "full")
    order = [("snapshots", 4), ("checkpoints", 5), ("snapshots", 8), ("checkpoints", 10)]
    expected = [f"{name} {at}" for name, at in [*order, ("snapshots", 12), ("checkpoints", 12)]]
    expected.insert(expected.index(f"snapshots {step}"), f"snapshots {step} failed")
    assert written == expected
    one, two = tensors(tmp_path / "straight"), tensors(tmp_path / "full")
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[part][name]) for part in one for name, value in one[part].items())


def test_snapshots_after_the_resumed_step_are_removed(small: Recipe, tmp_path: Path) -> None:
    recipe = small(train={"steps": 6, "checkpoint_every": 3, "ema_snapshot_every": 2, **AVERAGES})
    ddpmkit.run(recipe, tmp_path)
    (newest, *_) = checkpoint_folders(tmp_path / "checkpoints")
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    ddpmkit.run(small(train={**recipe["train"], "ema_snapshot_every": 0}), tmp_path)
    assert snapshots(tmp_path) == [2]


def test_a_damaged_snapshot_is_not_used(small: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = ddpmkit.run(small(train={"steps": 8, "ema_snapshot_every": 2, **AVERAGES}), tmp_path)
    with (tmp_path / "snapshots" / "step-00000004" / "ema-sigma_rel-0.1.safetensors").open("ab") as file:
        file.write(b"x")
    run.sample(1, weights="sigma_rel=0.07")
    assert "step-00000004" in caplog.text
    assert "It is not used." in caplog.text


class WithBuffers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.tied = self.linear
        self.register_buffer("coefficients", torch.tensor([1e-3, 1.0]))
        self.register_buffer("count", torch.tensor(3))


def test_buffers_are_not_mixed(tmp_path: Path) -> None:
    network, lock = WithBuffers(), tmp_path / "lock"
    lock.touch()
    for step in (1, 2):
        state = {name: torch.full_like(value, 7) for name, value in network.state_dict().items()}
        save_checkpoint(tmp_path / "snapshots", step, {"ema-sigma_rel-0.05": state, "ema-sigma_rel-0.1": state}, lock)
    current = {0.05: network.state_dict(), 0.1: network.state_dict()}
    mixed = Snapshots(tmp_path / "snapshots").posthoc_average(0.07, 3, current, network)
    for name, value in network.state_dict().items():
        if name in ("coefficients", "count"):
            assert torch.equal(mixed[name], value)
        else:
            assert not torch.equal(mixed[name], value)
    assert torch.equal(mixed["tied.weight"], mixed["linear.weight"])
    save_checkpoint(tmp_path / "snapshots", 2, {"ema-sigma_rel-0.1": {"other": torch.zeros(2)}}, lock)
    with pytest.raises(InputError, match="step-00000002 belongs to another network"):
        Snapshots(tmp_path / "snapshots").posthoc_average(0.07, 3, current, network)
