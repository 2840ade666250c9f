import os
import resource
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddpmkit.durable import write_atomically, written_atomically


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "a" / "page.html"
    write_atomically(target, b"first")
    write_atomically(target, b"second")
    assert target.read_bytes() == b"second"
    assert [file.name for file in target.parent.iterdir()] == ["page.html"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = write_atomically(tmp_path / "page.html", b"first")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    with pytest.raises(OSError, match="File too large"):
        write_atomically(target, b"x" * 2000)
    assert target.read_bytes() == b"first"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_block_that_raises_leaves_what_was_there(tmp_path: Path) -> None:
    target = write_atomically(tmp_path / "page.html", b"first")
    with pytest.raises(ZeroDivisionError), written_atomically(target) as file:
        file.write(b"x" * (1 // 0))
    assert target.read_bytes() == b"first"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_the_mode_of_a_file_follows_the_umask(tmp_path: Path, umask: int) -> None:
    target = write_atomically(tmp_path / "page.html", b"first")
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "page.html"
    outside.write_bytes(b"mine")
    target.symlink_to(outside)
    (tmp_path / ".page.html.partial").symlink_to(outside)
    write_atomically(target, b"page")
    assert (outside.read_bytes(), target.read_bytes()) == (b"mine", b"page")
    assert not target.is_symlink()


def test_many_writers_of_one_file_never_mix(tmp_path: Path) -> None:
    target, whole = tmp_path / "page.html", [bytes([letter]) * 100_000 for letter in b"abcd"]

    def write(content: bytes) -> None:
        for _ in range(10):
            write_atomically(target, content)
            assert target.read_bytes() in whole

    writers = [threading.Thread(target=write, args=(content,)) for content in whole]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert target.read_bytes() in whole
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    target = write_atomically(tmp_path / ("ü" * 120 + ".html"), b"page")
    assert target.read_bytes() == b"page"
