"""Caches decoded images on disk: uint8 [N, C, H, W], memory-mapped, and used only if their SHA-256 matches.

For datasets whose images take long to decode; plugins may import this module. A key must identify everything that the
pixels depend on.
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
    """Decoded images, and the sources that could not be decoded."""

    pixels: NDArray[np.uint8]
    """[N, C, H, W], without the bad sources."""
    digest: str
    """SHA-256 of `pixels`."""
    bad: Mapping[str, str]
    """The sources that could not be decoded, by name, with the reason."""


def fetch(group: str, key: str, sources: int, shape: ImageShape) -> Decoded | None:
    """Return the images cached under `key` in the folder `group` of the cache, or None if there are none.

    `sources`: the number of images that were to be decoded. Every byte is read and compared with the digest. If the
    cache is damaged, returns None and logs a warning.
    """
    pixels_file, facts_file = _paths(group, key)
    # Opening a pipe would block.
    if not (pixels_file.is_file() and facts_file.is_file()):
        return None
    try:
        facts = json.loads(facts_file.read_text(encoding="utf-8"))
        bad = {str(name): str(why) for name, why in facts["bad"].items()}
        if facts["seal"] != _seal(facts["digest"], bad):
            raise ValueError("its list of bad images does not match its digest")
        # Unlike `np.load`, this never reads an archive or a pickle.
        pixels = np.lib.format.open_memmap(pixels_file, mode="r")
        if pixels.dtype != np.uint8 or pixels.shape != (sources - len(bad), *shape):
            raise ValueError(f"it contains {pixels.dtype} {list(pixels.shape)}")
        if digest_of(pixels) != facts["digest"]:
            raise ValueError("its content does not match its digest")
        return Decoded(pixels, facts["digest"], bad)
    except Exception as error:
        # NumPy raises many exceptions for a damaged file.
        _log.warning("%s cannot be used, and the images are decoded again: %s", pixels_file, error)
        return None


def store(
    group: str, key: str, shape: ImageShape, batches: Iterable[NDArray[np.uint8]], bad: Mapping[str, str]
) -> Path | None:
    """Cache images under `key` and return the path of the file; None, with a warning, if the disk fails.

    Each batch [B, C, H, W] is written before the next one is requested, and `bad` is read after the last one.
    """
    pixels_file, facts_file = _paths(group, key)
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
        # This file comes last: without it, the images are not used.
        atomic_write_bytes(facts_file, json.dumps(facts).encode())
    except OSError as error:
        _log.warning("images cannot be cached in %s (%s): the next start decodes them again", pixels_file.parent, error)
        return None
    return pixels_file


def digest_of(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of contiguous pixels."""
    return hashlib.sha256(pixels.data).hexdigest()


def _write_header(file: IO[bytes], count: int, shape: ImageShape) -> None:
    """NumPy pads the header, so it has the same length for any `count`."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, header)


def _seal(digest: str, bad: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps([digest, sorted(bad.items())]).encode()).hexdigest()


def _paths(group: str, key: str) -> tuple[Path, Path]:
    folder = cache_folder() / group
    return folder / f"{key}.npy", folder / f"{key}.json"
