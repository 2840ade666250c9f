import errno
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ddpmkit.cli import main
from ddpmkit.errors import InputError
from ddpmkit.run_folder import RunFolder

LOCK = '[lock]\ndataset_fingerprint = "abc"\nversions = {}\ndistributions = {}\n'
"""The smallest valid lock of ddpmkit."""


def test_grids_of_later_steps_are_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.samples(1).parent.mkdir()
    for step in (1, 2, 3):
        folder.samples(step).write_bytes(b"png")
    folder.remove_grids_after(2)
    assert [folder.samples(step).exists() for step in (1, 2, 3)] == [True, True, False]


def test_only_files_that_a_run_writes_are_deleted(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for name in ("samples", "viz"):
        (tmp_path / name).mkdir()
    mine = [
        *("samples/step-zebra.png", "samples/step-00000009.jpg", "samples/step-9.png", "samples/seed-0.png"),
        *("viz/holiday.png", "viz/forward_tomorrow.png", "viz/forward.jpg", "samples/step-00000009.png.bak"),
    ]
    ours = ["samples/step-00000009.png", "viz/forward.png", "viz/backward_t0049.png", "report.html"]
    for name in (*mine, *ours):
        (tmp_path / name).write_bytes(b"image")
    (tmp_path / "samples" / "step-00000008.png").mkdir()
    folder.remove_grids_after(2)
    folder.remove_final_files()
    assert [name for name in mine if not (tmp_path / name).exists()] == []
    assert [name for name in ours if (tmp_path / name).exists()] == []
    assert (tmp_path / "samples" / "step-00000008.png").is_dir()


@pytest.mark.parametrize("name", ["holiday.png", "viz/holiday.png", "report.html", "metrics.jsonl", "checkpoints/a"])
def test_a_folder_with_other_files_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    own = tmp_path / "own" / name
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="is not a run folder") as caught:
        RunFolder(tmp_path / "own").create()
    assert name.partition("/")[0] in str(caught.value)
    assert "--out" in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert own.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "content",
    [b"", b"flour = 500\n", b"# for ddpmkit\n[lock]\nkey = 1\n", LOCK.encode() + b"[train\n", b"\xff"],
    ids=["empty", "of something else", "with a table of that name", "not TOML", "not text"],
)
def test_a_folder_with_a_foreign_lock_file_is_not_a_run_folder(tmp_path: Path, content: bytes) -> None:
    for name in ("recipe.lock.toml", "report.html"):
        (tmp_path / name).write_bytes(content)
    for use in (RunFolder(tmp_path).create, RunFolder(tmp_path).check):
        with pytest.raises(InputError, match=r"recipe.lock.toml was not written by ddpmkit .* Nothing was written"):
            use()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        "recipe.lock.toml": content,
        "report.html": content,
    }


@pytest.mark.parametrize(
    "names",
    [
        [],
        [".lock", ".holder.json", ".probe.0123.partial", ".recipe.lock.toml.0123.partial"],
        ["recipe.lock.toml", "notes.txt"],
        ["checkpoints/step-00000001/manifest.json"],
    ],
    ids=["empty", "of a run that was killed at once", "of a run", "of a run whose lock was lost"],
)
def test_the_folder_of_a_run_is_accepted(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(LOCK if name == "recipe.lock.toml" else "")
    before = sorted(tmp_path.rglob("*"))
    RunFolder(tmp_path).create()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["recipe.lock.toml", "metrics.jsonl", "incidents.jsonl", "report.html", ".lock"])
@pytest.mark.parametrize("kind", ["a link", "a pipe", "a folder"])
def test_a_path_that_is_not_a_regular_file_is_named_and_never_followed(tmp_path: Path, name: str, kind: str) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    folder.mkdir()
    outside.write_bytes(b"mine")
    if name != "recipe.lock.toml":
        (folder / "recipe.lock.toml").touch()
    {"a link": lambda: (folder / name).symlink_to(outside), "a pipe": lambda: os.mkfifo(folder / name)}.get(
        kind, (folder / name).mkdir
    )()
    with pytest.raises(InputError, match=rf"{name} is {kind}; a run needs a file there"):
        RunFolder(folder).create()
    assert outside.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["samples", "viz", "checkpoints", "snapshots"])
def test_a_folder_that_is_a_link_is_named_and_never_followed(tmp_path: Path, name: str) -> None:
    folder, outside = RunFolder(tmp_path / "run"), tmp_path / "outside"
    folder.path.mkdir()
    outside.mkdir()
    folder.lock.touch()
    for image in ("step-00000009.png", "forward.png"):
        (outside / image).write_bytes(b"mine")
    (folder.path / name).symlink_to(outside)
    with pytest.raises(InputError, match=f"{name} is a link; a run needs a folder there"):
        folder.create()
    folder.remove_grids_after(0)
    folder.remove_final_files()
    assert {image.name for image in outside.iterdir()} == {"step-00000009.png", "forward.png"}


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    RunFolder(tmp_path / "run").create()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 10_000, b'{"pid": 1}'])
def test_a_damaged_holder_file_hides_only_the_holder(tmp_path: Path, content: bytes) -> None:
    folder = RunFolder(tmp_path)
    with folder.exclusive():
        (tmp_path / ".holder.json").write_bytes(content)
        with pytest.raises(InputError, match="is being written by another process"), RunFolder(tmp_path).exclusive():
            pass


def test_a_folder_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="cannot be written") as caught:
        RunFolder(tmp_path / "taken").create()
    assert "--out" in str(caught.value)


HOLD = """
import sys, time
from pathlib import Path
from ddpmkit.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).exclusive():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_gets_an_error_that_names_the_holder_until_that_is_killed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"process {other.pid} on .*, since 20") as caught, folder.exclusive():
            pass
        assert "--out" in str(caught.value)
        other.kill()
    with folder.exclusive():
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EIO])
def test_on_a_file_system_without_locks_there_is_a_warning_and_the_run_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def flock(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    folder = RunFolder(tmp_path)
    folder.create()
    with folder.exclusive():
        assert (tmp_path / ".holder.json").exists()
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line == f"{tmp_path} cannot be locked ({os.strerror(number)}): use it in only one process at a time"
    assert not list(tmp_path.glob(".*.partial"))


def test_a_lock_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with (
        pytest.raises(InputError, match=r"\.lock cannot be opened: Is a directory") as caught,
        RunFolder(tmp_path).exclusive(),
    ):
        pass
    assert "--out DIR" in str(caught.value)


def test_a_released_folder_can_be_locked_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for _ in range(2):
        with folder.exclusive():
            assert (tmp_path / ".holder.json").exists()
    assert not (tmp_path / ".holder.json").exists()
    with pytest.raises(ZeroDivisionError), folder.exclusive():
        _ = 1 / 0
    with folder.exclusive():
        pass


@pytest.mark.parametrize("command", ["sample", "evaluate", "visualize", "checkpoint verify", "compare"])
def test_the_error_for_a_path_that_is_not_a_run_folder_states_what_it_is(tmp_path: Path, command: str) -> None:
    (tmp_path / "recipe.toml").write_text("")
    (tmp_path / "image.png").write_text("")
    (tmp_path / "empty").mkdir()
    lacks = "is not a run folder" if command == "compare" else "contains no checkpoint"
    for name, fault, remedy in (
        ("recipe.toml", "is a recipe, not a run folder.", f"ddpmkit run {tmp_path / 'recipe.toml'}"),
        ("image.png", "is a file, not a run folder.", ""),
        ("none", "does not exist", f"run `ddpmkit run RECIPE --out {tmp_path / 'none'}` to create one"),
        ("empty", lacks, f"run `ddpmkit run RECIPE --out {tmp_path / 'empty'}` to create one"),
    ):
        done = CliRunner().invoke(main, [*command.split(), str(tmp_path / name)])
        assert done.exit_code == 2
        assert re.search(rf"{tmp_path / name} {fault}", done.stderr)
        assert remedy in done.stderr
