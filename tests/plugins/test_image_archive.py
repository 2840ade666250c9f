"""An archive gives the same images as a folder; hostile and damaged archives are errors that name the member."""

import gzip
import io
import logging
import os
import shutil
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddpmkit.contracts import ImageShape
from ddpmkit.errors import InputError
from ddpmkit_plugins.image_folder import (
    ImageArchiveConfig,
    ImageFolderConfig,
    archive,
    dataset,
    decoded_images,
    decoding,
)
from ddpmkit_plugins.image_folder.dataset import ImageArchive, ImageFolder
from ddpmkit_plugins.image_folder.decoding import Source

SQUARE = ImageShape(3, 16, 16)
KINDS = ("zip", "tar", "tar.gz")
PLACES = [
    f"{split}/{name}/{number}.{ending}"
    for split in ("train", "val")
    for name in ("cat", "dog")
    for number, ending in enumerate(("jpg", "png", "JPEG"))
]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path / "cache"))


def encoded(place: str) -> bytes:
    seed = sum(place.encode())
    noise = np.random.default_rng(seed).integers(0, 256, (9, 11, 3)).astype(np.uint8)
    file = io.BytesIO()
    # Large enough for JPEG decoding at a fraction of the size.
    Image.fromarray(noise).resize((110, 90)).save(file, "PNG" if place.endswith("png") else "JPEG")
    return file.getvalue()


ANIMALS = {place: encoded(place) for place in PLACES}


def pack(path: Path, contents: Mapping[str, bytes]) -> Path:
    """Pack in this order, in the format of the suffix."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in contents.items():
                file.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
            for name, content in contents.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return path


def unpacked(root: Path, contents: Mapping[str, bytes]) -> Path:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def opened(path: Path, split: str = "train", classes: tuple[str, ...] | None = None, **keys: Any) -> ImageArchive:
    shape = keys.pop("shape", SQUARE)
    return ImageArchive(ImageArchiveConfig(path=str(path), **keys), split=split, classes=classes, image_shape=shape)


def shown(found: ImageArchive | ImageFolder) -> NDArray[np.uint8]:
    return found.images(np.arange(len(found)))


@pytest.mark.parametrize("outer", ["", "afhq/", "./", "./data/afhq/"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_gives_the_same_images_as_the_folder_in_any_order_of_members(
    tmp_path: Path, kind: str, outer: str
) -> None:
    shuffled = [PLACES[place] for place in np.random.default_rng(1).permutation(len(PLACES))]
    path = pack(tmp_path / f"a.{kind}", {outer + place: ANIMALS[place] for place in shuffled})
    root = unpacked(tmp_path / "folder", ANIMALS)
    for split in ("train", "val"):
        for classes in (None, ("dog",), ("dog", "cat")):
            for shape in (SQUARE, ImageShape(1, 9, 30)):
                found = opened(path, split, classes, shape=shape)
                config = ImageFolderConfig(root=str(root))
                folder = ImageFolder(config, split=split, classes=classes, image_shape=shape)
                assert np.array_equal(shown(found), shown(folder))
                assert found.class_names == folder.class_names
                assert np.array_equal(found.labels(np.arange(len(found))), folder.labels(np.arange(len(folder))))
                assert found.fingerprint == folder.fingerprint


PLAIN = {f"{number}.png": ANIMALS[place] for number, place in enumerate(PLACES)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("inside", "split_folders"),
    [("pets/", False), ("", False), ("pets/", True), ("", True), ("./", True), ("data/pets/", False)],
)
def test_images_in_one_folder_are_one_class_with_the_same_name_as_in_a_folder(
    tmp_path: Path, kind: str, inside: str, split_folders: bool
) -> None:
    contents = (
        {f"{split}/{name}": PLAIN[name] for split in ("train", "val") for name in PLAIN} if split_folders else PLAIN
    )
    root = unpacked(tmp_path / "pets", contents)
    path = pack(tmp_path / f"pets.{kind}", {inside + name: content for name, content in reversed(contents.items())})
    for split in ("train", "val"):
        found = opened(path, split)
        folder = ImageFolder(ImageFolderConfig(root=str(root)), split=split, classes=None, image_shape=SQUARE)
        assert found.class_names == folder.class_names == ("pets",)
        assert len(found) == len(folder) == (len(PLAIN) if split_folders or split == "train" else 0)
        assert np.array_equal(shown(found), shown(folder))
        assert found.fingerprint == folder.fingerprint
    with pytest.raises(InputError, match="no class 'cat'") as caught:
        opened(path, classes=("cat",))
    assert "available classes: pets" in str(caught.value)


def test_a_folder_with_classes_is_preferred_to_one_with_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = {"afhq/train/stray.jpg": b"", "docs/train/1.jpg": b"", "afhq/train/train/2.jpg": encoded("2.jpg")}
    found = opened(pack(tmp_path / "a.zip", {f"afhq/{place}": ANIMALS[place] for place in PLACES} | others))
    assert (found.class_names, len(found)) == (("cat", "dog", "train"), 7)
    assert "images in no class folder are skipped: 1 in" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_extracted_and_a_second_start_decodes_nothing(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(tmp_path / f"a.{kind}", ANIMALS)
    first = opened(path)
    opened(path, shape=ImageShape(1, 9, 30))

    def refuse(*arguments: object, **keys: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoded_images, "decode_all", refuse)
    again = opened(path)
    assert isinstance(first._pixels, np.memmap)
    assert np.array_equal(shown(again), shown(first))
    assert again.fingerprint == first.fingerprint
    written = [file.suffix for file in tmp_path.rglob("*") if file.is_file() and file != path]
    assert sorted(written) == [".json", ".json", ".npy", ".npy"]


@pytest.mark.parametrize("kind", KINDS)
def test_members_are_read_in_the_order_of_the_archive(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def read_member(member: archive.Member) -> Source:
        read.append(member.offset)
        return archive.read_member(member)

    monkeypatch.setattr(dataset, "read_member", read_member)
    opened(pack(tmp_path / f"a.{kind}", dict(reversed(ANIMALS.items()))))
    assert len(read) == 6
    assert read == sorted(read)  # going back in a compressed tar unpacks all of it again


def test_a_replaced_archive_is_decoded_again(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", ANIMALS)
    before = opened(path).fingerprint
    os.utime(path, (1, 1))
    assert opened(path).fingerprint == before
    pack(path, ANIMALS | {"train/cat/1.png": encoded("another.png")})
    assert opened(path).fingerprint != before


def test_val_is_empty_if_the_archive_has_no_held_out_images(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {place: ANIMALS[place] for place in PLACES if place.startswith("train")})
    assert len(opened(path, "val")) == 0


def test_labels_are_the_same_classes_in_both_splits(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", ANIMALS | {"train/bee/0.png": encoded("bee.png"), "val/ant/0.png": b""})
    held_out = opened(path, "val")
    assert held_out.class_names == opened(path).class_names == ("bee", "cat", "dog")
    assert held_out.labels(np.arange(6)).tolist() == [1, 1, 1, 2, 2, 2]


def test_hidden_files_and_files_that_are_not_images_are_skipped(tmp_path: Path) -> None:
    others = ["__MACOSX/train/cat/a.jpg", "train/cat/._1.jpg", ".trash/train/x/1.jpg", "train/cat/notes.txt", "read.me"]
    others += ["train/stray.jpg", "train/cat/deep/er/1.jpg", "1.jpg", "test/cat/1.jpg"]
    path = pack(tmp_path / "a.zip", dict.fromkeys(others, b"x") | ANIMALS)
    assert opened(path).class_names == ("cat", "dog")
    assert len(opened(path)) == 6


def test_an_unknown_class_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no class 'cats'") as caught:
        opened(pack(tmp_path / "a.zip", {f"afhq/{place}": b"" for place in PLACES}), classes=("cats",))
    assert "did you mean 'cat'?" in str(caught.value)
    assert str(tmp_path / "a.zip" / "afhq" / "train") in str(caught.value)


@pytest.mark.parametrize(
    "contents",
    [{}, {"cat/1.jpg": b"", "dog/1.jpg": b""}, {"val/cat/1.jpg": b""}, {"val/1.jpg": b""}, {"train/cat/1.txt": b""}],
)
@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_without_training_images_is_an_error_with_the_layout(
    tmp_path: Path, kind: str, contents: Mapping[str, bytes]
) -> None:
    with pytest.raises(InputError, match="contains no training images") as caught:
        opened(pack(tmp_path / f"a.{kind}", contents))
    assert "train/<class>/*.jpg" in str(caught.value)


def test_two_training_folders_are_named(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"afhq/train/cat/1.jpg": b"", "celeba/train/face/1.jpg": b""})
    with pytest.raises(InputError, match="more than one training folder: afhq/train, celeba/train"):
        opened(path)


def test_a_missing_archive_and_a_folder_have_different_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.zip does not exist"):
        opened(tmp_path / "a.zip")
    with pytest.raises(InputError, match="is not a file") as caught:
        opened(tmp_path)
    assert 'use = "image-folder"' in str(caught.value)
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(InputError, match="is not a file"):
        opened(tmp_path / "pipe.tar")


@pytest.mark.parametrize("kind", KINDS)
def test_corrupt_members_are_named_with_the_archive_or_skipped(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {"train/cat/empty.jpg": b"", "train/cat/page.jpg": b"<html>not here</html>", "train/dog/cut.png": b""}
    bad["train/dog/cut.png"] = ANIMALS["train/dog/1.png"][:2000]
    path = pack(tmp_path / f"a.{kind}", ANIMALS | bad)
    with pytest.raises(InputError, match="3 files are not intact images") as caught:
        opened(path)
    for name, reason in zip(bad, ("it is empty", "it is a web page", "truncated"), strict=True):
        assert f"{path}/{name}: " in str(caught.value)
        assert reason in str(caught.value)
    with caplog.at_level(logging.WARNING):
        found = opened(path, on_bad_image="skip")
    assert all(f"{path}/{name}" in caplog.text for name in bad)
    assert found.labels(np.arange(len(found))).tolist() == [0, 0, 0, 1, 1, 1]
    complete = unpacked(tmp_path / "folder", ANIMALS)
    folder = ImageFolder(ImageFolderConfig(root=str(complete)), split="train", classes=None, image_shape=SQUARE)
    assert found.fingerprint == folder.fingerprint


def zipped(path: Path, change: Callable[[zipfile.ZipInfo], object], method: int = zipfile.ZIP_STORED) -> Path:
    """The animals, and one more member that is different."""
    with zipfile.ZipFile(pack(path, ANIMALS), "a", method) as file:
        member = zipfile.ZipInfo("train/cat/odd.jpg")
        member.compress_type = method
        change(member)
        file.writestr(member, ANIMALS["train/cat/0.jpg"])
    return path


def test_a_wrong_checksum_is_a_corrupt_member(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", lambda member: None)
    content = bytearray(path.read_bytes())
    content[content.rindex(ANIMALS["train/cat/0.jpg"]) + 700] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.zip/train/cat/odd\.jpg: it cannot be unpacked \(Bad CRC-32"):
        opened(path)


def test_a_flipped_bit_in_a_tar_gz_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar.gz", ANIMALS)
    complete, before = path.read_bytes(), opened(path).fingerprint
    refused = []
    for place in np.random.default_rng(0).integers(0, 8 * len(complete), 60).tolist():
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        content = bytearray(complete)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            assert opened(path).fingerprint == before, place  # an unused bit of the header
        except InputError as error:
            refused.append(error.message)
    assert len(refused) >= 58
    assert all("is not an intact zip or tar archive" in message for message in refused)


def test_data_after_the_end_of_a_tar_is_read_up_to_a_limit(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", ANIMALS)
    padded = path.read_bytes() + bytes(2_000_000)
    zipped = tmp_path / "a.tar.gz"
    zipped.write_bytes(gzip.compress(padded)[:-8] + bytes(8))
    with pytest.raises(InputError, match="CRC check failed"):
        opened(zipped)
    zipped.write_bytes(gzip.compress(padded))
    assert len(opened(zipped)) == 6
    zipped.write_bytes(gzip.compress(path.read_bytes()) + gzip.compress(bytes(100_000_000)))
    assert "decompression bomb" in refusal(zipped)


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_a_damaged_header_in_a_tar_is_an_error(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / "a.tar", ANIMALS)
    content = bytearray(path.read_bytes())
    content[content.index(PLACES[4].encode())] ^= 1  # its header has another checksum now
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content if kind == "tar" else gzip.compress(content))
    with pytest.raises(InputError, match="the header of the next member is damaged") as caught:
        opened(path)
    assert f"after its member '{PLACES[3]}'" in str(caught.value)


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_a_tar_truncated_between_two_members_is_refused(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / "a.tar", ANIMALS)
    content = path.read_bytes()
    content = content[: content.index(PLACES[5].encode())]
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content if kind == "tar" else gzip.compress(content))
    with pytest.raises(InputError, match="its end mark is missing"):
        opened(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_method_with_unbounded_memory_is_refused(tmp_path: Path, method: int) -> None:
    path = zipped(tmp_path / "a.zip", lambda member: None, method)
    with pytest.raises(InputError, match=r"a\.zip/train/cat/odd\.jpg: it is compressed by a method other than deflate"):
        opened(path)


def test_an_encrypted_member_is_named(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", lambda member: None)
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.rindex(signature) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.zip/train/cat/odd\.jpg: it cannot be unpacked \(.*encrypted"):
        opened(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_a_device_in_a_tar_is_not_followed(tmp_path: Path, kind: bytes) -> None:
    path = pack(tmp_path / "a.tar", ANIMALS)
    with tarfile.open(path, "a") as file:
        member = tarfile.TarInfo("train/cat/odd.jpg")
        member.type, member.linkname = kind, "train/cat/0.jpg"
        file.addfile(member)
    with pytest.raises(InputError, match=r"a\.tar/train/cat/odd\.jpg: it is a link, a device or a pipe"):
        opened(path)


def test_a_link_in_a_zip_is_not_taken_for_an_image(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", lambda member: setattr(member, "external_attr", (stat.S_IFLNK | 0o777) << 16))
    with pytest.raises(InputError, match=r"a\.zip/train/cat/odd\.jpg: it is a link"):
        opened(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../outside.jpg", "points outside"),
        ("train/../../outside.jpg", "points outside"),
        ("train\\..\\outside.jpg", "points outside"),
        ("/etc/cat/1.jpg", "has an absolute path"),
        ("C:\\cat\\1.jpg", "has an absolute path"),
        ("train/cat/\x1b[31m.jpg", "has control characters"),
        ("train/./cat//0.jpg", "exists twice"),
    ],
)
def test_a_hostile_name_is_refused_with_archive_and_member(tmp_path: Path, kind: str, name: str, reason: str) -> None:
    path = pack(tmp_path / f"a.{kind}", ANIMALS | {name: b"x"})
    with pytest.raises(InputError, match=reason) as caught:
        opened(path)
    assert f"{path} is refused: its member {name!r}" in str(caught.value)
    assert not (tmp_path / "cache").exists()


def refusal(path: Path) -> str:
    """The error for an archive that is refused, found without using much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            opened(path)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused_by_its_claimed_size(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / f"a.{kind}", {"train/cat/bomb.jpg": bytes(50_000_000)})
    assert "its member 'train/cat/bomb.jpg' claims 50,000,000 bytes in an archive of " in refusal(path)


def header(kind: bytes, size: int) -> bytes:
    member = tarfile.TarInfo("train/cat/huge.jpg")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def sparse(size: int, real_size: int) -> bytes:
    """GNU's old header of a file with holes: `size` bytes are in the archive, `real_size` are claimed after unpacking.

    https://www.gnu.org/software/tar/manual/html_node/Standard.html, struct oldgnu_header.
    """
    content = bytearray(header(tarfile.GNUTYPE_SPARSE, size))
    content[483:495] = b"%011o\0" % real_size
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content)
    return bytes(content)


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        (header(tarfile.REGTYPE, 2**42), "its member 'train/cat/huge.jpg' claims "),
        (header(b"Z", 2**42), "its member 'train/cat/huge.jpg' claims "),
        (sparse(0, 2**42), "its member 'train/cat/huge.jpg' claims "),
        (sparse(2**42, 0), "after its member 'train/cat/huge.jpg' (it unpacks to more than "),
        (
            header(tarfile.XHDTYPE, 2**32),
            "after its member 'noise.bin' (a header claims 4,294,967,296 bytes",
        ),
        (header(tarfile.GNUTYPE_LONGNAME, 2**32), "after its member 'noise.bin' (a header claims 4,294,967,296 bytes"),
    ],
    ids=["file", "unknown", "holes", "sparse", "pax", "long name"],
)
@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_a_header_that_claims_terabytes_is_refused(tmp_path: Path, kind: str, claim: bytes, reason: str) -> None:
    noise = np.random.default_rng(0).bytes(300_000)
    path = pack(tmp_path / f"a.{kind}", {"noise.bin": noise})
    content = path.read_bytes() if kind == "tar" else gzip.decompress(path.read_bytes())
    hostile = content[: 512 + len(noise) + -len(noise) % 512] + claim + bytes(10_240)
    path.write_bytes(hostile if kind == "tar" else gzip.compress(hostile))
    assert reason in refusal(path)


def test_a_member_that_unpacks_to_more_than_it_claims_takes_no_more_memory(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"train/cat/liar.jpg": bytes(50_000_000)})
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.rindex(signature) + place, 1000)
    path.write_bytes(content)
    assert f"{path}/train/cat/liar.jpg: it cannot be unpacked (Bad CRC-32" in refusal(path)


def test_members_are_not_all_in_memory_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_MOST_BYTES", 2_000_000)
    monkeypatch.setattr(decoded_images, "WORKERS", 4)
    noise = np.random.default_rng(0).bytes(1_000_000)
    path = pack(tmp_path / "a.tar", {f"train/cat/{number}.jpg": noise for number in range(30)})
    assert "30 files are not intact images" in refusal(path)


def test_a_member_larger_than_the_limit_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBER", 5_000)
    path = pack(tmp_path / "a.zip", ANIMALS | {"train/cat/large.jpg": np.random.default_rng(0).bytes(6_000)})
    with pytest.raises(InputError, match=r"a\.zip/train/cat/large\.jpg: it claims 6,000 bytes"):
        opened(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_a_truncated_archive_is_an_error(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / f"a.{kind}"
    pack(path, ANIMALS)
    complete = path.read_bytes().rstrip(b"\0") if kind == "tar" else path.read_bytes()
    path.write_bytes(complete[: int(len(complete) * share)])
    with pytest.raises(InputError, match="is not an intact zip or tar archive") as caught:
        opened(path)
    assert str(path) in str(caught.value)
    assert "download it again" in str(caught.value)
    if kind != "zip" and share > 0:
        assert any(f"after its member '{place}'" in str(caught.value) for place in PLACES)


@pytest.mark.parametrize(
    "content", [b"<html>", b"PK", b"PK\x05\x06", b"\x1f\x8b", b"\x1f\x8b\x08\0<html>", bytes(20_000)]
)
def test_a_file_that_is_not_an_archive_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError) as caught:
        opened(tmp_path / "a.zip")
    assert str(tmp_path / "a.zip") in str(caught.value)


def test_the_format_is_detected_from_the_content_and_not_from_the_name(tmp_path: Path) -> None:
    for kind in KINDS:
        shutil.move(pack(tmp_path / f"a.{kind}", ANIMALS), tmp_path / f"{kind}.download")
        assert len(opened(tmp_path / f"{kind}.download")) == 6
