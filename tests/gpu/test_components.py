"""Every built-in backbone, loss, schedule and sampler computes on the device."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import ddpmkit
from ddpmkit.plugin.discovery import discover

pytestmark = pytest.mark.gpu

Recipe = Callable[..., dict[str, Any]]

_INSTALLED = discover(third_party=False).registry()
BACKBONES: Mapping[str, dict[str, Any]] = {
    "attention-unet": {"dim": 8, "multipliers": [1, 2], "linear_attention_levels": [1], "heads": 1, "head_dim": 8},
    "adm-unet": {"dim": 8, "multipliers": [1, 2], "attention_levels": [1], "head_dim": 8, "groups": 4},
    "dit": {"dim": 16, "depth": 1, "heads": 2},
    "diffusers-unet": {
        **{"block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4},
        **{"attention_levels": [1], "attention_head_dim": 8},
    },
}


def names(kind: str) -> list[str]:
    return sorted(entry.use for entry in _INSTALLED.of_kind(kind))


def check(run: Any, device: torch.device) -> None:
    """The run has finite weights, and its images are those of its weights on the CPU."""
    assert all(torch.isfinite(weight).all() for weight in run.model.network.parameters())
    assert {weight.device.type for weight in run.model.network.parameters()} == {device.type}
    images = run.sample(2)
    assert images.shape == (2, 3, 8, 8)
    assert images.float().std() > 1
    expected = ddpmkit.load(run.folder.path, device="cpu").sample(2)
    assert (images.int() - expected.int()).abs().max() <= 2


@pytest.mark.parametrize("name", names("backbone"))
def test_a_backbone_trains_and_generates(small: Recipe, tmp_path: Path, device: torch.device, name: str) -> None:
    if name == "diffusers-unet":
        pytest.importorskip("diffusers")
    check(ddpmkit.run(small(backbone={"use": name, **BACKBONES[name]}), tmp_path / "run"), device)


@pytest.mark.parametrize("name", names("loss"))
def test_a_loss_trains(small: Recipe, tmp_path: Path, device: torch.device, name: str) -> None:
    check(ddpmkit.run(small(loss={"use": name}, train={"steps": 6}), tmp_path / "run"), device)


@pytest.mark.parametrize("name", names("schedule"))
def test_a_schedule_trains(small: Recipe, tmp_path: Path, device: torch.device, name: str) -> None:
    check(ddpmkit.run(small(schedule={"use": name}, train={"steps": 6}), tmp_path / "run"), device)


@pytest.mark.parametrize("name", names("sampler"))
def test_a_sampler_generates(small: Recipe, tmp_path: Path, device: torch.device, name: str) -> None:
    sampler = {"use": name, "count": 4, "batch_size": 4}
    check(ddpmkit.run(small(sampler=sampler, train={"steps": 6}), tmp_path / "run"), device)


def test_bfloat16_channels_last_and_validation_work_in_one_run(
    small: Recipe, tmp_path: Path, device: torch.device
) -> None:
    train = {"steps": 6, "precision": "bfloat16", "validate_every": 3, "sample_every": 3, "checkpoint_every": 3}
    run = ddpmkit.run(small(train=train), tmp_path / "run")
    assert run.step == 6
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == 2
    assert run.sample(2).float().std() > 1
