"""Opening run folders and checkpoints."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ddpmkit
from ddpmkit.checkpoint import save_checkpoint
from ddpmkit.errors import InputError

Recipe = Callable[..., dict[str, Any]]


def test_a_checkpoint_without_its_run_can_be_sampled(small: Recipe, tmp_path: Path) -> None:
    run = ddpmkit.run(small(train={"steps": 2}), tmp_path / "run")
    expected = run.sample(3, seed=5)
    alone = tmp_path / "elsewhere" / "copy"
    shutil.copytree(run.checkpoint.path, alone)
    shutil.rmtree(tmp_path / "run")
    assert torch.equal(ddpmkit.load(alone).sample(3, seed=5), expected)


def test_weights_of_another_network_are_rejected(small: Recipe, tmp_path: Path) -> None:
    ddpmkit.run(small(train={"steps": 1}), tmp_path)
    (folder,) = (tmp_path / "checkpoints").iterdir()
    lock = folder.parent.parent / "recipe.lock.toml"
    lock.write_text(lock.read_text().replace("dim = 8", "dim = 16"))
    other = save_checkpoint(folder.parent, 2, {"model": ddpmkit.load(tmp_path).checkpoint.tensors("model")}, lock)
    with pytest.raises(InputError, match=r"do not fit the network; the first of \d+ differences: size mismatch"):
        ddpmkit.load(other.path).sample(1)


def test_overrides_change_the_sampler_but_not_the_schedule(small: Recipe, tmp_path: Path) -> None:
    run = ddpmkit.run(small(train={"steps": 2}), tmp_path)
    ddim = ddpmkit.load(tmp_path, overrides=["sampler.use=ddim"])
    assert not torch.equal(ddim.sample(2), run.sample(2))
    assert torch.equal(
        ddim.sample(2, steps=3), ddpmkit.load(tmp_path, overrides=["sampler.use=ddim"]).sample(2, steps=3)
    )
    with pytest.raises(InputError, match=r'schedule\.use: "cosine" -> "linear"'):
        ddpmkit.load(tmp_path, overrides=["schedule.use=linear"])


@pytest.mark.parametrize(("path", "fault"), [("nowhere", "nowhere does not exist"), (".", "contains no checkpoint")])
def test_a_folder_without_a_run_is_named(tmp_path: Path, path: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        ddpmkit.load(tmp_path / path)
