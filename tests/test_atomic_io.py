import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddpmkit import plugin
from ddpmkit.atomic_io import atomic_write, atomic_write_bytes


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_plugins_can_use_it_by_both_names() -> None:
    assert plugin.atomic_write is plugin.written_atomically is atomic_write


def test_a_file_is_replaced_completely(tmp_path: Path) -> None:
    target = tmp_path / "a" / "page.html"
    atomic_write_bytes(target, b"first")
    atomic_write_bytes(target, b"second")
    assert target.read_bytes() == b"second"
    assert [file.name for file in target.parent.iterdir()] == ["page.html"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = atomic_write_bytes(tmp_path / "page.html", b"first")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    with pytest.raises(OSError, match="File too large"):
        atomic_write_bytes(target, b"x" * 2000)
    assert target.read_bytes() == b"first"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_block_that_raises_leaves_the_old_file(tmp_path: Path) -> None:
    target = atomic_write_bytes(tmp_path / "page.html", b"first")
    with pytest.raises(ZeroDivisionError), atomic_write(target) as file:
        file.write(b"x" * (1 // 0))
    assert target.read_bytes() == b"first"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_the_mode_of_a_file_follows_the_umask(tmp_path: Path, umask: int) -> None:
    target = atomic_write_bytes(tmp_path / "page.html", b"first")
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


def test_a_link_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "page.html"
    outside.write_bytes(b"mine")
    target.symlink_to(outside)
    (tmp_path / ".page.html.partial").symlink_to(outside)
    atomic_write_bytes(target, b"page")
    assert (outside.read_bytes(), target.read_bytes()) == (b"mine", b"page")
    assert not target.is_symlink()


def test_concurrent_writers_of_one_file_never_mix(tmp_path: Path) -> None:
    target, contents = tmp_path / "page.html", [bytes([letter]) * 100_000 for letter in b"abcd"]

    def write(content: bytes) -> None:
        for _ in range(10):
            atomic_write_bytes(target, content)
            assert target.read_bytes() in contents

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert target.read_bytes() in contents
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    target = atomic_write_bytes(tmp_path / ("ü" * 120 + ".html"), b"page")
    assert target.read_bytes() == b"page"


WRITER = """
import sys, time
from pathlib import Path
from ddpmkit.atomic_io import atomic_write
with atomic_write(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("half is written", flush=True)
    sys.stdin.readline()
"""


def writer(path: Path) -> "subprocess.Popen[str]":
    """A process that has written half a file, and ends when it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half is written\n"
    return process


def test_the_next_write_deletes_files_of_killed_processes_and_not_of_running_ones(
    tmp_path: Path,
) -> None:
    killed, living = writer(tmp_path / "a.png"), writer(tmp_path / "b.png")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    mine = [tmp_path / name for name in (".a.png.partial", ".a.0123456g.partial", "a.01234567.partial", ".partial")]
    for file in mine:
        file.touch()
    assert len(list(tmp_path.iterdir())) == 6
    atomic_write_bytes(tmp_path / "c.png", b"c")
    assert len(list(tmp_path.iterdir())) == 6
    living.communicate("go on\n")
    assert living.returncode == 0
    assert (tmp_path / "b.png").read_bytes() == b"half"
    assert sorted(tmp_path.iterdir()) == sorted([*mine, tmp_path / "b.png", tmp_path / "c.png"])


def test_on_a_file_system_without_locks_files_are_written_and_none_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> bool:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("filelock.lock_descriptor", refuse)
    left = tmp_path / ".a.png.01234567.partial"
    left.touch()
    assert atomic_write_bytes(tmp_path / "a.png", b"a").read_bytes() == b"a"
    assert left.exists()


def test_a_writer_whose_new_file_was_deleted_as_abandoned_creates_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may delete the file just before it is locked."""
    import filelock

    lock, robbed = filelock.lock_descriptor, []

    def late(handle: int, **options: bool) -> bool:
        if not robbed:
            (partial,) = tmp_path.glob(".*.partial")
            partial.unlink()
            robbed.append(partial)
        return lock(handle, **options)

    monkeypatch.setattr(filelock, "lock_descriptor", late)
    assert atomic_write_bytes(tmp_path / "a.png", b"a").read_bytes() == b"a"
    assert len(robbed) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]
