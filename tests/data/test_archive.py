import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ddpmkit.data.archive import extract_archive
from ddpmkit.errors import InputError


def archive(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def special(name: str, kind: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = (kind | 0o777) << 16
    return member


def test_an_honest_archive_is_unpacked(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", ("train/cat/1.jpg", b"one"), ("val/cat/2.jpg", b"two"))
    extract_archive(source, tmp_path / "out")
    assert (tmp_path / "out" / "train" / "cat" / "1.jpg").read_bytes() == b"one"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../outside.txt", "leads out"),
        ("a/../../outside.txt", "leads out"),
        ("..\\outside.txt", "leads out"),
        ("/tmp/outside.txt", "absolute"),
        ("C:/outside.txt", "absolute"),
        (special("train/link", stat.S_IFLNK), "is a link"),
        (special("train/zero", stat.S_IFCHR), "is a device"),
        (special("train/pipe", stat.S_IFIFO), "is a device or a pipe"),
        ("TRAIN/cat/1.JPG", "twice"),
    ],
)
def test_a_hostile_member_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str | zipfile.ZipInfo, reason: str
) -> None:
    source = archive(tmp_path / "a.zip", ("train/cat/1.jpg", b"one"), (name, b"/etc/passwd"))
    with pytest.raises(InputError, match=reason):
        extract_archive(source, tmp_path / "deep" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", ("bomb", bytes(10_000_000)), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="claims to unpack"):
        extract_archive(source, tmp_path / "out")


def rewritten(source: Path, change: Callable[[bytearray, int], None]) -> Path:
    """The archive with every entry of its central directory changed; `change` gets the bytes and an entry's place."""
    content = bytearray(source.read_bytes())
    place = content.find(b"PK\x01\x02")
    while place >= 0:
        change(content, place)
        place = content.find(b"PK\x01\x02", place + 4)
    source.write_bytes(content)
    return source


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", ("a", b"x" * 5000), ("b", b"x" * 5000), ("c", b"x" * 5000))

    def to_the_first(content: bytearray, place: int) -> None:
        content[place + 42 : place + 46] = (0).to_bytes(4, "little")  # offset of the local header

    with pytest.raises(InputError, match=r"overlaps another one|damaged"):
        extract_archive(rewritten(source, to_the_first), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [10, 900_000])
def test_a_size_that_is_a_lie_is_found_and_nothing_is_written(tmp_path: Path, size: int) -> None:
    source = archive(tmp_path / "a.zip", ("a", b"x" * 5000), compression=zipfile.ZIP_DEFLATED)

    def lie(content: bytearray, place: int) -> None:
        content[place + 24 : place + 28] = size.to_bytes(4, "little")  # size when unpacked

    with pytest.raises(InputError, match=r"damaged|claims to unpack"):
        extract_archive(rewritten(source, lie), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", ("a", b"x" * 50))

    def lock(content: bytearray, place: int) -> None:
        content[place + 8] |= 1

    with pytest.raises(InputError, match="is encrypted"):
        extract_archive(rewritten(source, lock), tmp_path / "out")


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", ("train/cat/1.jpg", b"x" * 1000))
    content = bytearray(source.read_bytes())
    content[300] ^= 1
    source.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged: .*train/cat/1\.jpg"):
        extract_archive(source, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"<html>Too many requests</html>"])
def test_what_is_no_archive_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match="is no zip archive"):
        extract_archive(tmp_path / "a.zip", tmp_path / "out")


def test_a_truncated_archive_is_said(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("train/cat/1.jpg", b"x" * 1000)
    (tmp_path / "a.zip").write_bytes(buffer.getvalue()[:-30])
    with pytest.raises(InputError, match="is no zip archive"):
        extract_archive(tmp_path / "a.zip", tmp_path / "out")
