"""Keys of the cache of decoded images: what the files look like from outside, that is names, sizes and times."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ddpmkit.contracts import ImageShape

GROUP = "images"
"""Folder of the cache."""
VERSION = 3
"""Counts changes of the decoding: images that were decoded by another version are not used."""


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


def _status(path: Path) -> os.stat_result:
    """Of the file, or of the link itself when it leads nowhere."""
    try:
        return path.stat()
    except OSError:
        return path.lstat()
