"""The cache of decoded images: invalid files are never executed, and images are decoded again with one warning."""

import json
import logging
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddpmkit.contracts import ImageShape
from ddpmkit_plugins.image_folder import ImageFolderConfig
from ddpmkit_plugins.image_folder.dataset import ImageFolder

SHAPE = ImageShape(3, 8, 8)


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return exec, ("raise SystemExit('executed')",)


def npy(header: str, *, version: int = 1, length: int | None = None, content: bytes = b"") -> bytes:
    """A file in NumPy's format (numpy.lib.format) whose header may be wrong."""
    raw = header.encode()
    size = struct.pack("<H" if version == 1 else "<I", len(raw) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + raw + content


def described(shape: str, kind: str = "|u1") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n"


PIXELS = {
    "empty": b"",
    "truncated header": b"\x93NUMPY",
    "html": b"<html>",
    "pickle": pickle.dumps(Trap()),
    "pickle after a header": npy(described("(2,)", "|O"), content=pickle.dumps(Trap())),
    "header length bomb": npy(described("(2, 3, 8, 8)"), version=2, length=2**32 - 1),
    "long header": npy(" " * 200_000 + described("(2, 3, 8, 8)"), version=2),
    "nested header": npy("(" * 9_000, version=2),
    "header that takes memory": npy("-" * 9_900 + "1", version=2),
    "terabytes": npy(described("(2000000000000, 3, 8, 8)"), content=bytes(384)),
    "more than a machine can count": npy(described(f"({2**70}, 3)"), content=bytes(384)),
    "less than nothing": npy(described("(-1, 3, 8, 8)"), content=bytes(384)),
    "truth for a length": npy(described("(True, 3)"), content=bytes(384)),
    "cut short": npy(described("(2, 3, 8, 8)"), content=bytes(383)),
    "one image too few": npy(described("(1, 3, 8, 8)"), content=bytes(192)),
    "other numbers": npy(described("(2, 3, 8, 8)", "<f4"), content=bytes(4 * 384)),
    "archive": b"PK\x05\x06" + bytes(18),
}
FACTS = {
    "empty": b"",
    "no text": b"\xff\xfe",
    "a list": b"[]",
    "without a digest": b'{"bad": {}}',
    "bad files in a list": b'{"bad": ["x"], "digest": "d"}',
    "more bad files than there are": json.dumps({"bad": {"a": "", "b": "", "c": ""}, "digest": "d"}).encode(),
    "nested": b"[" * 100_000,
    "a number with many digits": b"1" * 10_000,
}


def start(tmp_path: Path) -> tuple[NDArray[np.uint8], str]:
    """The images of a training start, and their fingerprint."""
    folder = ImageFolder(ImageFolderConfig(root=str(tmp_path / "data")), split="train", classes=None, image_shape=SHAPE)
    return folder.images(np.arange(len(folder))), folder.fingerprint


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Two images that were decoded once; the function returns the cache file with a suffix."""
    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path / "cache"))
    for number in range(2):
        path = tmp_path / "data" / "train" / "cat" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((8, 8), 40 + number).convert("RGB").save(path)
    start(tmp_path)
    return lambda ending: next((tmp_path / "cache" / "images").glob(f"*.{ending}"))


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        *(pytest.param("npy", content, id=f"pixels: {name}") for name, content in PIXELS.items()),
        *(pytest.param("json", content, id=f"facts: {name}") for name, content in FACTS.items()),
    ],
)
def test_an_invalid_cache_file_is_never_executed_and_images_are_decoded_again(
    tmp_path: Path, cached: Callable[[str], Path], caplog: pytest.LogCaptureFixture, ending: str, content: bytes
) -> None:
    pixels, fingerprint = start(tmp_path)
    cached(ending).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        again, same = start(tmp_path)
        assert np.array_equal(again, pixels)
        assert same == fingerprint
        (line,) = caplog.messages
        assert "decoded again" in line
        assert str(cached("npy")) in line
        start(tmp_path)  # and the cache is intact again
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("ending", ["npy", "json"])
@pytest.mark.parametrize("what", ["pipe", "device"])
def test_a_pipe_in_the_cache_does_not_block(
    tmp_path: Path, cached: Callable[[str], Path], ending: str, what: str
) -> None:
    pixels, fingerprint = start(tmp_path)
    file = cached(ending)
    file.unlink()
    if what == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    again, same = start(tmp_path)
    assert np.array_equal(again, pixels)
    assert same == fingerprint
    assert file.is_file()
