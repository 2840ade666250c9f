import resource
from pathlib import Path

import pytest

from ddpmkit.durable import write_atomically


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
