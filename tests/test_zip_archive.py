import io
import random
import resource
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from ddpmkit.errors import InputError
from ddpmkit.zip_archive import extract_archive


def archive(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def special(name: str, kind: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = (kind | 0o777) << 16
    return member


def test_a_valid_archive_is_extracted(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", ("train/cat/1.jpg", b"one"), ("val/cat/2.jpg", b"two"))
    extract_archive(source, tmp_path / "out")
    assert (tmp_path / "out" / "train" / "cat" / "1.jpg").read_bytes() == b"one"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../outside.txt", "points outside"),
        ("a/../../outside.txt", "points outside"),
        ("..\\outside.txt", "points outside"),
        ("/tmp/outside.txt", "absolute"),
        ("C:/outside.txt", "absolute"),
        (special("train/link", stat.S_IFLNK), "is a link"),
        (special("train/zero", stat.S_IFCHR), "is a device"),
        (special("train/pipe", stat.S_IFIFO), "is a device or a pipe"),
        ("train/cat/1.jpg", "twice"),
        ("TRAIN/cat/1.JPG", "twice"),
        ("train/./cat//1.jpg", "twice"),
        ("train/cat", "twice"),
        ("train/cat/1.jpg/", "twice"),
        ("train/cat/1.jpg/2.jpg", "twice"),
        ("train/cafe\u0301", "twice"),
        ("CON", "not portable"),
        ("train/nul.jpg", "not portable"),
        ("com1.tar.gz/1.jpg", "not portable"),
        ("train/cat./1.jpg", "not portable"),
        ("train/cat/2.jpg ", "not portable"),
        ("train/cat/\n[31m.jpg", "not portable"),
        ("./.", "no name"),
        ("train/" + "ä" * 128, "too long"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")  # while the test writes the archive
def test_a_hostile_member_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str | zipfile.ZipInfo, reason: str
) -> None:
    source = archive(tmp_path / "a.zip", ("train/cat/1.jpg", b"one"), ("train/caf\xe9", b"two"), (name, b"/etc/passwd"))
    with pytest.raises(InputError, match=reason):
        extract_archive(source, tmp_path / "deep" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", ("bomb", bytes(10_000_000)), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="claims to unpack"):
        extract_archive(source, tmp_path / "out")


def overlapping(path: Path, count: int, kernel: bytes) -> Path:
    """A better zip bomb (https://www.bamsoftware.com/hacks/zipbomb/): all members share one kernel.

    The content of each is the local header of the next one, quoted in a stored block, and all that follows that one.
    """
    packed = zlib.compress(kernel, wbits=-15)
    content, crc, size = packed, zlib.crc32(kernel), len(kernel)
    unpacked = kernel
    members: list[tuple[bytes, bytes, bytes]] = []
    for number in reversed(range(count)):
        name = b"%04d.jpg" % number
        facts = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, crc, len(content), size, len(name), 0)
        header = b"PK\x03\x04" + facts + name
        members.append((name, facts, header))
        body = header + content
        unpacked = header + unpacked
        crc, size = zlib.crc32(unpacked), len(unpacked)
        content = b"\0" + struct.pack("<HH", len(header), 0xFFFF ^ len(header)) + body
    directory, place = b"", 0
    for name, facts, header in reversed(members):
        directory += b"PK\x01\x02\x14\x00" + facts + struct.pack("<HHHII", 0, 0, 0, 0, place) + name
        place += len(header) + 5
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    path.write_bytes(body + directory + b"PK\x05\x06" + end)
    return path


def test_a_bomb_of_overlapping_members_is_refused(tmp_path: Path) -> None:
    source = overlapping(tmp_path / "a.zip", 100, random.Random(0).randbytes(50_000))
    with zipfile.ZipFile(source) as file:
        sizes = [member.file_size for member in file.infolist()]
    assert sum(sizes) > 80 * source.stat().st_size
    assert max(sizes) < 2 * source.stat().st_size  # no single member looks like a bomb
    with pytest.raises(InputError, match=r"'0001\.jpg' overlaps another one"):
        extract_archive(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_method_with_unbounded_memory_is_refused(tmp_path: Path, method: int) -> None:
    with pytest.raises(InputError, match="a method other than deflate"):
        extract_archive(archive(tmp_path / "a.zip", ("a", b"x" * 50), compression=method), tmp_path / "out")


@pytest.mark.parametrize("limit", [1_000, 5_000])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, limit: int) -> None:
    source = archive(tmp_path / "a.zip", ("train/cat/1.jpg", b"x" * 900), ("train/cat/2.jpg", b"x" * 9_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    with pytest.raises(OSError, match="File too large"):
        extract_archive(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_an_archive_larger_than_the_free_space_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = archive(tmp_path / "a.zip", ("train/cat/1.jpg", b"x" * 9_000))
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: type("Usage", (), {"free": 8_999}))
    with pytest.raises(InputError, match=r"unpacks to 0\.0 GB"):
        extract_archive(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_an_archive_is_not_extracted_into_a_folder_with_files(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(OSError, match="not empty"):
        extract_archive(archive(tmp_path / "a.zip", ("a", b"x")), tmp_path / "out")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["a.zip", "out", "out/mine"]


def test_archives_with_random_changed_bytes_are_extracted_inside_or_refused(tmp_path: Path) -> None:
    change = random.Random(0)
    members = archive(tmp_path / "a.zip", ("train/é.jpg", b"x" * 90), ("val/2.jpg", b"y" * 40)).read_bytes()
    directory = members.index(b"PK\x01\x02")
    refused = 0
    for number in range(1_000):
        content = bytearray(members)
        for _ in range(change.randint(1, 3)):
            place = change.randrange(directory if change.random() < 0.7 else 0, len(content))
            content[place] = change.choice([0, 1, 255, ord("/"), ord("."), change.randrange(256)])
        (tmp_path / "a.zip").write_bytes(content)
        try:
            extract_archive(tmp_path / "a.zip", tmp_path / "deep" / str(number))
        except InputError:
            refused += 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "deep"]
    assert len(list((tmp_path / "deep").iterdir())) == 1_000 - refused
    assert 500 < refused < 1_000


def rewritten(source: Path, change: Callable[[bytearray, int], None]) -> Path:
    """The archive with every entry of its central directory changed by `change(content, offset of the entry)`."""
    content = bytearray(source.read_bytes())
    place = content.find(b"PK\x01\x02")
    while place >= 0:
        change(content, place)
        place = content.find(b"PK\x01\x02", place + 4)
    source.write_bytes(content)
    return source


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", ("a", b"x" * 5000), ("b", b"x" * 5000), ("c", b"x" * 5000))

    def to_the_first(content: bytearray, place: int) -> None:
        content[place + 42 : place + 46] = (0).to_bytes(4, "little")  # offset of the local header

    with pytest.raises(InputError, match="overlaps another one"):
        extract_archive(rewritten(source, to_the_first), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [10, 900_000])
def test_a_false_size_is_detected_and_nothing_is_written(tmp_path: Path, size: int) -> None:
    source = archive(tmp_path / "a.zip", ("a", b"x" * 5000), compression=zipfile.ZIP_DEFLATED)

    def falsify(content: bytearray, place: int) -> None:
        content[place + 24 : place + 28] = size.to_bytes(4, "little")  # size when unpacked

    with pytest.raises(InputError, match=r"damaged|claims to unpack"):
        extract_archive(rewritten(source, falsify), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", ("a", b"x" * 50))

    def lock(content: bytearray, place: int) -> None:
        content[place + 8] |= 1

    with pytest.raises(InputError, match="is encrypted"):
        extract_archive(rewritten(source, lock), tmp_path / "out")


def test_a_flipped_byte_is_detected(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", ("train/cat/1.jpg", b"x" * 1000))
    content = bytearray(source.read_bytes())
    content[300] ^= 1
    source.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged: .*train/cat/1\.jpg"):
        extract_archive(source, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"<html>Too many requests</html>"])
def test_a_file_that_is_not_an_archive_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match="is not a zip archive"):
        extract_archive(tmp_path / "a.zip", tmp_path / "out")


def test_a_truncated_archive_is_an_error(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("train/cat/1.jpg", b"x" * 1000)
    (tmp_path / "a.zip").write_bytes(buffer.getvalue()[:-30])
    with pytest.raises(InputError, match="is not a zip archive"):
        extract_archive(tmp_path / "a.zip", tmp_path / "out")
