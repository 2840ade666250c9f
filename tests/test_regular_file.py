import hashlib
import os
from pathlib import Path

import pytest

from ddpmkit.plugin import sha256_file
from ddpmkit.regular_file import append_regular, fsync_file, kind_of, open_regular


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "link").symlink_to("file")
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest() == sha256_file(tmp_path / "link")
    with pytest.raises(OSError, match="it is a link"):
        sha256_file(tmp_path / "link", follow_links=False)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["a pipe", "a folder"])
def test_other_kinds_of_files_are_an_error_and_do_not_block(tmp_path: Path, make: object) -> None:
    path = tmp_path / "path"
    make(path)  # type: ignore[operator]
    for use in (sha256_file, append_regular, fsync_file, lambda path: open_regular(path, follow_links=True)):
        with pytest.raises(OSError, match=r"it is a pipe|Is a directory"):
            use(path)


def test_kinds_are_named_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    found = {name: kind_of(tmp_path / name) for name in ("file", "link", "pipe", ".", "absent")}
    assert found == {"file": "a file", "link": "a link", "pipe": "a pipe", ".": "a folder", "absent": None}
