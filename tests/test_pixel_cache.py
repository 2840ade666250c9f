"""The cache of decoded images: which files it accepts, and which files it leaves on the disk."""

import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ddpmkit.contracts import ImageShape
from ddpmkit.pixel_cache import fetch, store

SHAPE = ImageShape(3, 8, 9)
PIXELS = np.random.default_rng(0).integers(0, 256, (5, *SHAPE)).astype(np.uint8)
BAD = {"b.png": "it is empty"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "group"


def kept() -> Path:
    file = store("group", "key", SHAPE, [PIXELS[:2], PIXELS[2:]], BAD)
    assert file is not None
    return file


def test_images_stored_in_batches_are_read_complete_and_memory_mapped() -> None:
    file = kept()
    found = fetch("group", "key", 6, SHAPE)
    assert found is not None
    assert isinstance(found.pixels, np.memmap)
    assert np.array_equal(found.pixels, PIXELS)
    assert np.array_equal(np.load(file, allow_pickle=False), PIXELS)
    assert (found.digest, found.bad) == (hashlib.sha256(PIXELS.tobytes()).hexdigest(), BAD)
    assert fetch("group", "other", 6, SHAPE) is None


def test_a_list_of_only_bad_images_is_cached() -> None:
    assert store("group", "key", SHAPE, [], BAD) is not None
    found = fetch("group", "key", 1, SHAPE)
    assert found is not None
    assert (found.pixels.shape, found.bad) == ((0, *SHAPE), BAD)


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "half of it zeroed": (
        "npy",
        lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    ),
    "a page zeroed": ("npy", lambda content: content[:512] + bytes(64) + content[576:]),
    "first pixel": ("npy", lambda content: flip(content, 128)),
    "last pixel": ("npy", lambda content: flip(content, len(content) - 1)),
    "another digest": ("json", lambda content: content.replace(b'"digest": "', b'"digest": "0', 1)),
    "another bad image": ("json", lambda content: content.replace(b"b.png", b"c.png")),
    "a bad image less": ("json", lambda content: content.replace(b'{"b.png": "it is empty"}', b"{}")),
    "facts of a version without seals": (
        "json",
        lambda content: json.dumps({key: json.loads(content)[key] for key in ("digest", "bad")}).encode(),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_cache_that_does_not_match_its_digest_is_not_used_with_one_warning(
    damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    ending, change = DAMAGES[damage]
    file = kept().with_suffix(f".{ending}")
    before = file.read_bytes()
    file.write_bytes(change(before))
    assert file.read_bytes() != before
    with caplog.at_level(logging.WARNING):
        assert fetch("group", "key", 6, SHAPE) is None
    (line,) = caplog.messages
    assert str(file.with_suffix(".npy")) in line
    assert "decoded again" in line
    kept()
    assert fetch("group", "key", 6, SHAPE) is not None


def test_every_flipped_bit_is_detected() -> None:
    file = kept()
    content = file.read_bytes()
    for place in range(128, len(content), 7):
        file.write_bytes(flip(content, place))
        assert fetch("group", "key", 6, SHAPE) is None, place


def test_a_failing_disk_is_only_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    def full() -> Iterator[NDArray[np.uint8]]:
        yield PIXELS
        raise OSError(28, "No space left on device")

    assert store("group", "key", SHAPE, full(), {}) is None
    assert "the next start decodes them again" in caplog.text
    assert fetch("group", "key", 5, SHAPE) is None
    assert list(folder.iterdir()) == []


def test_the_mode_of_the_cache_follows_the_umask() -> None:
    before = os.umask(0o022)
    try:
        file = kept()
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (file, file.with_suffix(".json"))} == {0o644}
