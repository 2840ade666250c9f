"""Decoded pictures on disk, found by what their files look like from outside: names, sizes, times.

It does not know how a picture is decoded.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpmkit.contracts import ImageShape
from ddpmkit.plugin import cache_folder, written_atomically

VERSION = 2
"""Counts changes of the decoding: pictures decoded by another version are not used."""
_log = logging.getLogger(__name__)


def listing_key(root: Path, files: Sequence[Path], shape: ImageShape) -> str:
    """A hash of names, sizes and times of the files: cheap to compute, different when any of them was written to."""
    digest = hashlib.sha256(json.dumps([VERSION, str(root.resolve()), list(shape)]).encode())
    for path in files:
        found = _status(path)
        # A name may be bytes that are no text; os.fsencode gives them back.
        digest.update(os.fsencode(f"\0{path.relative_to(root)}\0{found.st_size}\0{found.st_mtime_ns}"))
    return digest.hexdigest()


def archive_key(archive: Path, members: Sequence[Path], shape: ImageShape) -> str:
    """The same for members of an archive, by their paths below its own: one file, one size, one time."""
    found = archive.stat()
    names = [str(member.relative_to(archive)) for member in members]
    facts = [VERSION, str(archive.resolve()), found.st_size, found.st_mtime_ns, list(shape), names]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


class Decoded(NamedTuple):
    """Pictures uint8 [N, C, H, W], a hash of them, and why files were left out, by their names below the root."""

    pixels: NDArray[np.uint8]
    digest: str
    bad: Mapping[str, str]


def fetch(key: str, files: int, shape: ImageShape) -> Decoded | None:
    """What is kept under `key` of so many files, with the pictures mapped into memory.

    None when there is nothing; when it is not whole, or not what it should be, a warning says so.
    """
    pixels_file, facts_file = _places(key)
    # A pipe under one of the names would be waited for.
    if not (pixels_file.is_file() and facts_file.is_file()):
        return None
    try:
        facts = json.loads(facts_file.read_text(encoding="utf-8"))
        bad = {str(name): str(why) for name, why in facts["bad"].items()}
        # Unlike `np.load`, this takes nothing for an archive or a pickle.
        pixels = np.lib.format.open_memmap(pixels_file, mode="r")
        if pixels.dtype != np.uint8 or pixels.shape != (files - len(bad), *shape):
            raise ValueError(f"it holds {pixels.dtype} {list(pixels.shape)}")
        return Decoded(pixels, str(facts["digest"]), bad)
    except Exception as error:
        # There is no end to the ways in which a file can be no cache, and NumPy's reader has an exception for each.
        _log.warning("%s cannot be used, and the pictures are decoded again: %s", pixels_file, error)
        return None


def store(key: str, decoded: Decoded) -> Path | None:
    """Keep pictures under `key`; None, with a warning, when the cache folder cannot be written."""
    pixels_file, facts_file = _places(key)
    facts = {"digest": decoded.digest, "bad": dict(decoded.bad)}
    try:
        with written_atomically(pixels_file) as file:
            np.save(file, decoded.pixels, allow_pickle=False)
        # The facts come last: without them the pictures are not believed.
        with written_atomically(facts_file) as file:
            file.write(json.dumps(facts).encode())
    except OSError as error:
        _log.warning("pictures cannot be kept in %s (%s): the next start decodes again", pixels_file.parent, error)
        return None
    return pixels_file


def _status(path: Path) -> os.stat_result:
    """Of the file, or of the link itself when it leads nowhere."""
    try:
        return path.stat()
    except OSError:
        return path.lstat()


def _places(key: str) -> tuple[Path, Path]:
    folder = cache_folder() / "images"
    return folder / f"{key}.npy", folder / f"{key}.json"
