import json
import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddpmkit.checkpoint import (
    checkpoint_folders,
    clear_leftovers,
    newest_checkpoint,
    open_checkpoint,
    remove_checkpoint,
    resumable_checkpoint,
    save_checkpoint,
)
from ddpmkit.errors import InputError, RunFailed


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.lock.toml"
    file.write_text('name = "x"\n')
    return file


def parts(value: float = 1.0) -> dict[str, dict[str, torch.Tensor]]:
    model = {"weight": torch.full((4, 3, 3, 3), value).to(memory_format=torch.channels_last)}
    return {"model": model, "optimizer": {"weight/step": torch.tensor(3.0)}}


def test_what_was_saved_is_read_back_bit_for_bit(tmp_path: Path, lock: Path) -> None:
    saved = parts(torch.pi)
    save_checkpoint(tmp_path / "checkpoints", 7, saved, lock)
    found = newest_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    assert found.step == 7
    assert found.path.name == "step-00000007"
    assert torch.equal(found.tensors("model")["weight"], saved["model"]["weight"])
    assert found.tensors("ema") == {}
    assert found.lock.read_text() == lock.read_text()


def test_nothing_in_a_checkpoint_is_a_pickle_and_no_partial_folder_stays(tmp_path: Path, lock: Path) -> None:
    saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    assert {file.suffix for file in saved.path.iterdir()} == {".safetensors", ".json", ".toml"}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000007"]


def test_every_flipped_byte_is_found(tmp_path: Path, lock: Path) -> None:
    saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    for file in saved.path.iterdir():
        content = file.read_bytes()
        for place in range(0, len(content), max(1, len(content) // 40)):
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(InputError, match=r"checkpoint .*step-00000007"):
                open_checkpoint(saved.path)
        file.write_bytes(content)
    open_checkpoint(saved.path)


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json", "recipe.lock.toml"])
def test_the_newest_that_verifies_wins_and_a_damaged_one_is_set_aside_and_named(
    tmp_path: Path, lock: Path, name: str, caplog: pytest.LogCaptureFixture
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
def test_a_reader_skips_a_damaged_one_and_changes_nothing(
    tmp_path: Path, lock: Path, name: str, caplog: pytest.LogCaptureFixture
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


def test_a_reader_finds_the_one_that_a_killed_save_had_set_aside_and_leaves_its_name(
    tmp_path: Path, lock: Path
) -> None:
    saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    aside = saved.path.rename(saved.path.with_name("step-00000007.replaced"))
    found = newest_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    assert (found.path, found.step) == (aside, 7)
    resumed = resumable_checkpoint(tmp_path / "checkpoints")
    assert resumed is not None
    assert resumed.path == saved.path


def test_what_a_reader_holds_stays_readable_when_the_run_removes_it(tmp_path: Path, lock: Path) -> None:
    saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(torch.pi), lock)
    found = newest_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    remove_checkpoint(saved.path)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert torch.equal(found.tensors("model")["weight"], parts(torch.pi)["model"]["weight"])
    assert (found.has("optimizer"), found.has("ema"), found.tensors("ema")) == (True, False, {})
    assert found.lock_content == lock.read_bytes()


def test_a_reader_beside_a_run_that_saves_and_removes_sees_one_whole_checkpoint(tmp_path: Path, lock: Path) -> None:
    folder, done = tmp_path / "checkpoints", threading.Event()
    save_checkpoint(folder, 1, parts(1), lock)

    def rotate() -> None:
        for step in range(2, 10_000):
            save_checkpoint(folder, step, parts(step), lock)
            save_checkpoint(folder, step, parts(step), lock)  # once more, as a resume at this step does
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


@pytest.mark.parametrize("name", ["notes.txt", "mine/notes.txt", "model.safetensors/notes.txt"])
def test_a_checkpoint_that_holds_someone_s_own_files_is_not_removed(tmp_path: Path, lock: Path, name: str) -> None:
    saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    if name.startswith("model"):
        (saved.path / "model.safetensors").unlink()
    (saved.path / name).parent.mkdir(exist_ok=True)
    (saved.path / name).write_text("mine")
    remove_checkpoint(saved.path)
    assert (tmp_path / "checkpoints" / "step-00000007.kept" / name).read_text() == "mine"
    assert checkpoint_folders(tmp_path / "checkpoints") == []


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda path: path.symlink_to(path.name)])
def test_what_only_has_the_name_of_a_checkpoint_is_not_removed(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "step-00000007")
    remove_checkpoint(tmp_path / "step-00000007")
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000007.kept"]


def test_a_checkpoint_that_is_a_link_is_not_followed_when_it_is_removed(tmp_path: Path, lock: Path) -> None:
    saved = save_checkpoint(tmp_path / "elsewhere", 7, parts(), lock)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000007").symlink_to(saved.path)
    remove_checkpoint(tmp_path / "checkpoints" / "step-00000007")
    open_checkpoint(saved.path)


def test_when_none_verifies_that_is_an_error_and_not_a_fresh_start(tmp_path: Path, lock: Path) -> None:
    saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    (saved.path / "model.safetensors").write_bytes(b"")
    for find in (newest_checkpoint, resumable_checkpoint):
        with pytest.raises(InputError, match=r"none of the 1 checkpoints.*model\.safetensors is damaged"):
            find(tmp_path / "checkpoints")


def test_a_file_that_only_the_manifest_knows_to_be_elsewhere_is_refused(tmp_path: Path, lock: Path) -> None:
    saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    manifest = saved.path / "manifest.json"
    content = json.loads(manifest.read_text())
    content["files"]["../outside"] = "0" * 64
    manifest.write_text(json.dumps(content, indent=2) + "\n")
    with pytest.raises(InputError, match="damaged"):
        open_checkpoint(saved.path)


def test_newest_first_by_number_not_by_name(tmp_path: Path, lock: Path) -> None:
    for step in (9, 100_000_000, 10):
        save_checkpoint(tmp_path / "checkpoints", step, parts(), lock)
    assert [int(path.name[5:]) for path in checkpoint_folders(tmp_path / "checkpoints")] == [100_000_000, 10, 9]


def test_what_a_killed_process_left_is_cleared_and_a_replaced_checkpoint_is_kept_until_the_new_one_is_whole(
    tmp_path: Path, lock: Path
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


def test_a_save_that_fails_leaves_no_trace(tmp_path: Path, lock: Path) -> None:
    lock.unlink()
    with pytest.raises(RunFailed, match="could not be written"):
        save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077], ids=oct)
def test_the_mode_of_a_checkpoint_follows_the_umask(tmp_path: Path, lock: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        saved = save_checkpoint(tmp_path / "checkpoints", 7, parts(), lock)
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in saved.path.iterdir()}
    assert len(modes) == 4
    assert set(modes.values()) == {0o666 & ~umask}
    assert stat.S_IMODE(saved.path.stat().st_mode) == 0o777 & ~umask
