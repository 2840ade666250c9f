import base64
import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ddpmkit.report.images import embedded, thumbnail


def png(path: Path, size: tuple[int, int] = (4, 4)) -> bytes:
    Image.new("RGB", size, "red").save(path, format="PNG")
    return path.read_bytes()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(path: Path) -> None:
    """A few bytes whose header declares 60,000 by 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    image = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + image)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(2**32)


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": Path.touch,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a socket": bound,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link": lambda path: path.symlink_to(path.with_name("outside.png")),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "cut short": lambda path: path.write_bytes(png(path)[:-20]),
    "text": lambda path: path.write_text("<html>"),
    "a JPEG": lambda path: Image.new("RGB", (4, 4)).save(path, format="JPEG"),
    "a bomb": bomb,
    "very large": sparse,
}


def test_an_image_is_embedded_byte_for_byte_and_its_thumbnail_is_small(tmp_path: Path) -> None:
    content = png(tmp_path / "a.png", (1000, 500))
    kind, _, data = embedded(tmp_path / "a.png").partition(",")
    assert (kind, base64.b64decode(data)) == ("data:image/png;base64", content)
    kind, _, data = thumbnail(tmp_path / "a.png").partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (320, 160)


def test_a_missing_image_is_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert (embedded(tmp_path / "a.png"), thumbnail(tmp_path / "a.png")) == ("", "")
    assert not caplog.records


@pytest.mark.parametrize("make", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("show", [embedded, thumbnail])
def test_a_file_that_is_not_an_image_is_skipped_and_named(
    tmp_path: Path,
    make: Callable[[Path], object],
    show: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    png(tmp_path / "outside.png")
    make(tmp_path / "a.png")
    assert show(tmp_path / "a.png") == ""
    assert len(caplog.records) == 1
    assert "a.png is skipped" in caplog.text


def test_no_image_is_read_from_a_folder_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    png(tmp_path / "outside" / "a.png")
    (tmp_path / "samples").symlink_to(tmp_path / "outside")
    assert embedded(tmp_path / "samples" / "a.png") == ""
