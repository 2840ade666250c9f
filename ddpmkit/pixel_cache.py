"""Decoded images on disk, mapped into memory: uint8 [N, C, H, W], believed only if their digest is right.

Datasets keep here what takes long to decode; plugins may use it too. The key says what decides the pixels.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpmkit.atomic_io import atomic_write, atomic_write_bytes
from ddpmkit.contracts import ImageShape
from ddpmkit.environment import cache_folder

__all__ = ["Decoded", "digest_of", "fetch", "store"]

_log = logging.getLogger(__name__)


class Decoded(NamedTuple):
    """Images, and which sources were left out."""

    pixels: NDArray[np.uint8]
    """[N, C, H, W], without the bad ones."""
    digest: str
    """SHA-256 of `pixels`."""
    bad: Mapping[str, str]
    """Why each of the others is not an image, by its name."""


def fetch(group: str, key: str, sources: int, shape: ImageShape) -> Decoded | None:
    """What is kept of so many sources under `key`, in the folder `group` of the cache.

    Every byte is read and compared with its digest. None if there is nothing; also, with a warning, if it is damaged.
    """
    pixels_file, facts_file = _places(group, key)
    # A pipe under one of the names would be waited for.
    if not (pixels_file.is_file() and facts_file.is_file()):
        return None
    try:
        facts = json.loads(facts_file.read_text(encoding="utf-8"))
        bad = {str(name): str(why) for name, why in facts["bad"].items()}
        if facts["seal"] != _seal(facts["digest"], bad):
            raise ValueError("its list of bad images does not match its digest")
        # Unlike `np.load`, this takes nothing for an archive or a pickle.
        pixels = np.lib.format.open_memmap(pixels_file, mode="r")
        if pixels.dtype != np.uint8 or pixels.shape != (sources - len(bad), *shape):
            raise ValueError(f"it holds {pixels.dtype} {list(pixels.shape)}")
        if digest_of(pixels) != facts["digest"]:
            raise ValueError("its content does not match its digest")
        return Decoded(pixels, facts["digest"], bad)
    except Exception as error:
        # There is no end to the ways in which a file can be damaged, and NumPy's reader has an exception for each.
        _log.warning("%s cannot be used, and the images are decoded again: %s", pixels_file, error)
        return None


def store(
    group: str, key: str, shape: ImageShape, batches: Iterable[NDArray[np.uint8]], bad: Mapping[str, str]
) -> Path | None:
    """Keep images under `key`; None, with a warning, if the disk does not take them.

    Each batch [B, C, H, W] is written before the next one is asked for, and `bad` is read after the last one.
    """
    pixels_file, facts_file = _places(group, key)
    try:
        digest, count = hashlib.sha256(), 0
        with atomic_write(pixels_file) as file:
            _write_header(file, 0, shape)
            for batch in batches:
                content = np.ascontiguousarray(batch).data
                file.write(content)
                digest.update(content)
                count += len(batch)
            file.seek(0)
            _write_header(file, count, shape)
        facts = {"digest": digest.hexdigest(), "bad": dict(bad), "seal": _seal(digest.hexdigest(), bad)}
        # The facts come last: without them the images are not believed.
        atomic_write_bytes(facts_file, json.dumps(facts).encode())
    except OSError as error:
        _log.warning("images cannot be kept in %s (%s): the next start decodes again", pixels_file.parent, error)
        return None
    return pixels_file


def digest_of(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of contiguous pixels."""
    return hashlib.sha256(pixels.data).hexdigest()


def _write_header(file: IO[bytes], count: int, shape: ImageShape) -> None:
    """NumPy leaves room for any `count`, so that the header has one length."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, header)


def _seal(digest: str, bad: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps([digest, sorted(bad.items())]).encode()).hexdigest()


def _places(group: str, key: str) -> tuple[Path, Path]:
    folder = cache_folder() / group
    return folder / f"{key}.npy", folder / f"{key}.json"
