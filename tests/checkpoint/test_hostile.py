"""Hostile checkpoints with a matching manifest are refused with a clear error."""

import json
import os
import resource
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sealing import PARTS, digests, read_all, seal

import ddpmkit
from ddpmkit.checkpoint import open_checkpoint
from ddpmkit.errors import InputError

SMALL: dict[str, Any] = {
    "data": {"use": "critters", "image_size": 8, "size": 8, "val_size": 4},
    "diffusion": {"timesteps": 4},
    "backbone": {"dim": 8, "multipliers": [1], "linear_attention_levels": [], "heads": 1, "head_dim": 8},
    "sampler": {"count": 4},
    "train": {"steps": 2, "batch_size": 4, "checkpoint_every": 1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real") / "run"
    ddpmkit.run(SMALL, folder)
    return folder


@pytest.fixture
def hostile(run: Path, tmp_path: Path) -> Path:
    """A real checkpoint in a real run, which a test makes hostile."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run" / "checkpoints" / "step-00000002"


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Limits the memory to 512 MB more than is used now, so that a large allocation raises MemoryError."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 512 * 2**20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_the_manifest_written_by_these_tests_is_that_of_ddpmkit(hostile: Path) -> None:
    before = (hostile / "manifest.json").read_bytes()
    seal(hostile)
    assert (hostile / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 100_000, id="nested lists"),
        pytest.param('{"a":' * 100_000, id="nested tables"),
        pytest.param('{"format": 1, "step": 1e999, "files": {}}', id="an infinite step"),
        pytest.param('{"format": 1, "step": ' + "9" * 5000 + "}", id="a number of 5000 digits"),
        pytest.param("\ufeff{}", id="a byte order mark"),
    ],
)
def test_a_malformed_manifest_is_refused(hostile: Path, text: str) -> None:
    (hostile / "manifest.json").write_text(text)
    with pytest.raises(InputError):
        open_checkpoint(hostile)


@pytest.mark.parametrize("length", [0, 1, 100_000_000, 2**40, 2**63, 2**64 - 1])
@pytest.mark.usefixtures("little_memory")
def test_a_header_length_bomb_with_a_matching_manifest_is_refused(hostile: Path, length: int) -> None:
    (hostile / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{" * 1000)
    seal(hostile)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        read_all(hostile)


@pytest.mark.usefixtures("little_memory")
def test_a_tensor_larger_than_its_file_is_refused(hostile: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}).encode()
    (hostile / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    seal(hostile)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        read_all(hostile)


@pytest.mark.parametrize(
    "name", ["../outside", "../../checkpoints/outside", "{absolute}", "./../outside", "a/../../outside"]
)
def test_a_manifest_with_files_outside_the_folder_is_refused(hostile: Path, name: str) -> None:
    outside = hostile.parent / "outside"
    outside.write_bytes(b"outside")
    shutil.copy(outside, hostile / "inside")
    digest = digests(hostile)["inside"]
    (hostile / "inside").unlink()
    seal(hostile, files={**digests(hostile), name.format(absolute=outside): digest})
    with pytest.raises(InputError, match="step-00000002"):
        open_checkpoint(hostile)


@pytest.mark.parametrize("name", ["model.safetensors", "recipe.lock.toml", "manifest.json"])
def test_a_link_in_the_folder_is_refused_even_if_its_target_is_right(hostile: Path, name: str) -> None:
    outside = hostile.parent / "outside"
    (hostile / name).rename(outside)
    (hostile / name).symlink_to(outside)
    with pytest.raises(InputError, match=name):
        open_checkpoint(hostile)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
@pytest.mark.parametrize("kind", ["pipe", "endless", "loop", "folder"])
@pytest.mark.usefixtures("little_memory")
def test_a_path_that_is_not_a_regular_file_neither_blocks_nor_fills_memory(hostile: Path, name: str, kind: str) -> None:
    file = hostile / name
    file.unlink()
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "endless":
            file.symlink_to("/dev/zero")
        case "loop":
            file.symlink_to(file)
        case "folder":
            file.mkdir()
    with pytest.raises(InputError):
        open_checkpoint(hostile)


def test_a_file_that_is_not_in_the_manifest_is_refused(hostile: Path) -> None:
    files = digests(hostile)
    del files["ema.safetensors"]
    seal(hostile, files=files)
    with pytest.raises(InputError, match=r"ema\.safetensors"):
        open_checkpoint(hostile)


def go_on(hostile: Path) -> None:
    seal(hostile)
    ddpmkit.run({**SMALL, "train": {**SMALL["train"], "steps": 3}}, hostile.parent.parent)


@pytest.mark.parametrize("part", ["model", "optimizer", "progress"])  # a run may have no average
@pytest.mark.parametrize("left", ["no file", "no tensor"])
def test_a_run_is_not_resumed_if_a_part_is_missing(hostile: Path, part: str, left: str) -> None:
    file = hostile / f"{part}.safetensors"
    if left == "no file":
        file.unlink()
    else:
        save_file({}, file)
    with pytest.raises(InputError, match="checkpoint"):
        go_on(hostile)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("change", ["renamed", "reshaped"])
def test_a_run_is_not_resumed_from_tensors_of_another_network(hostile: Path, part: str, change: str) -> None:
    file = hostile / f"{part}.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[0]
    value = tensors.pop(name)
    if change == "renamed":
        tensors[f"{name}x"] = value
    else:
        tensors[name] = torch.zeros(*value.shape, 3)
    save_file(tensors, file)
    with pytest.raises(InputError, match="checkpoint"):
        go_on(hostile)


@pytest.mark.parametrize("part", ["model", "ema"])
def test_nothing_is_sampled_from_tensors_of_another_network(hostile: Path, part: str) -> None:
    save_file({"other": torch.zeros(3)}, hostile / f"{part}.safetensors")
    seal(hostile)
    with pytest.raises(InputError, match="checkpoint"):
        ddpmkit.load(hostile).sample(1, weights="raw" if part == "model" else "ema")


SCHEDULE = '[schedule]\nuse = "cosine"'


@pytest.mark.parametrize(
    "section",
    [
        *(
            f"[schedule]\nuse = {json.dumps(use)}"
            for use in ("", "nowhere", "trap", "trap:Thing", "trap/thing", "local/trap:Thing", "../trap", "trap.py")
        ),
        '[schedule]\nuse = "ddpmkit_plugins.cosine.schedule:CosineSchedule"',
        '[schedule]\nuse = "os:system"',
        *(f'{SCHEDULE}\n{key} = "trap:Thing"' for key in ("target", "config", "plugin", "__class__")),
        f'[plugin]\nfile = "trap.py"\n{SCHEDULE}',
    ],
)
def test_a_lock_that_names_code_is_refused_and_nothing_is_imported(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str
) -> None:
    (tmp_path / "trap.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    lock = hostile / "recipe.lock.toml"
    assert SCHEDULE in lock.read_text()
    lock.write_text(lock.read_text().replace(SCHEDULE, section))
    seal(hostile)
    with pytest.raises(InputError, match=r"recipe\.lock\.toml"):
        ddpmkit.load(hostile)
    assert "trap" not in sys.modules


@pytest.mark.parametrize("text", ["", "[", "name = 3", "\0", "[lock]\n", "[lock.versions]\npython = 3\n"])
def test_an_invalid_lock_is_refused(hostile: Path, text: str) -> None:
    (hostile / "recipe.lock.toml").write_text(text)
    seal(hostile)
    with pytest.raises(InputError, match=r"recipe\.lock\.toml"):
        ddpmkit.load(hostile)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["another recipe", "pipe", "endless"])
@pytest.mark.usefixtures("little_memory")
def test_a_lock_cannot_extend_another_file(hostile: Path, tmp_path: Path, kind: str) -> None:
    other = tmp_path / "other.toml"
    match kind:
        case "another recipe":
            other.write_text("[sampler]\ncount = 4\n")
        case "pipe":
            os.mkfifo(other)
        case "endless":
            other = Path("/dev/zero")
    lock = hostile / "recipe.lock.toml"
    lock.write_text(f"extends = {json.dumps(str(other))}\n" + lock.read_text())
    seal(hostile)
    with pytest.raises(InputError, match="extends"):
        ddpmkit.load(hostile)
