"""A dataset of decoded images: decoded once in parallel, cached on disk, then memory-mapped."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpmkit.contracts import ImageShape
from ddpmkit.pixel_cache import Decoded, digest_of, fetch, store
from ddpmkit.plugin import InputError
from ddpmkit_plugins.image_folder.decoding import Source, decode_all
from ddpmkit_plugins.image_folder.listing import Listing

WORKERS = os.cpu_count() or 1
VERSION = 3
"""Increased when the decoding changes: images that another version decoded are not used."""
_GROUP = "images"
"""Folder of the cache."""
_MOST_NAMED = 20
_log = logging.getLogger(__name__)


class DecodedImages:
    """One split, sorted by class and name."""

    def __init__(self, root: Path, listing: Listing, decoded: Decoded, on_bad_image: str, advice: str) -> None:
        """The names of bad files are relative to `root`; `advice` is appended if there are too many to list.

        Raises InputError if files cannot be decoded and `on_bad_image` is "error".
        """
        bad = {root / name: why for name, why in decoded.bad.items()}
        if bad:
            _report_bad(bad, on_bad_image, advice)
        labels = [label for path, label in zip(listing.files, listing.labels, strict=True) if path not in bad]
        self.class_names = listing.class_names
        self._pixels = decoded.pixels
        self._labels = np.array(labels, dtype=np.int64)
        self.fingerprint = _fingerprint(decoded.digest, self._labels, self.class_names)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._labels)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 [B, C, H, W]."""
        return np.asarray(self._pixels[indices])

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [B]."""
        return self._labels[indices]


def decode_once(
    key: str,
    root: Path,
    split: str,
    files: Sequence[Path],
    shape: ImageShape,
    sources: Callable[[], Iterable[tuple[int, Source]]],
    is_current: Callable[[Decoded], bool] = lambda _found: True,
) -> Decoded:
    """The cached images under `key` if they exist and are current; otherwise decode `sources` and cache them."""
    found = cached(key, len(files), shape)
    if found is not None and is_current(found):
        return found
    started = time.perf_counter()
    pixels, bad = decode_all(sources(), len(files), shape, WORKERS)
    names = {files[place].relative_to(root).as_posix(): bad[place] for place in sorted(bad)}
    cache_file = store(_GROUP, key, shape, [pixels], names) if files else None
    if cache_file is not None:
        seconds = time.perf_counter() - started
        _log.info("decoded %d %s images of %s in %.1f s, cached in %s", len(pixels), split, root, seconds, cache_file)
        # Use the memory-mapped images, as every later start does; this frees the memory of the decoded ones.
        found = cached(key, len(files), shape)
        if found is not None:
            return found
    return Decoded(pixels, digest_of(pixels), names)


def cached(key: str, count: int, shape: ImageShape) -> Decoded | None:
    """The cached images of `count` files under `key`; None if there are none."""
    return fetch(_GROUP, key, count, shape)


def listing_key(root: Path, files: Sequence[Path], shape: ImageShape) -> str:
    """A hash of the names, sizes and times of the files, for the cache. Files are not read."""
    digest = hashlib.sha256(json.dumps([VERSION, str(root.resolve()), list(shape)]).encode())
    for path in files:
        found = _status(path)
        # os.fsencode restores names that are not valid text.
        digest.update(os.fsencode(f"\0{path.relative_to(root)}\0{found.st_size}\0{found.st_mtime_ns}"))
    return digest.hexdigest()


def archive_key(archive: Path, members: Sequence[Path], shape: ImageShape) -> str:
    """A hash of the name, size and time of an archive, and of the names of `members` (paths below `archive`)."""
    found = archive.stat()
    names = [str(member.relative_to(archive)) for member in members]
    facts = [VERSION, str(archive.resolve()), found.st_size, found.st_mtime_ns, list(shape), names]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _status(path: Path) -> os.stat_result:
    """Of the file, or of the link itself if its target does not exist."""
    try:
        return path.stat()
    except OSError:
        return path.lstat()


def _report_bad(bad: Mapping[Path, str], policy: str, advice: str) -> None:
    """Name the files that cannot be decoded: as an error or as a warning."""
    named = [f"{path}: {why}" for path, why in list(bad.items())[:_MOST_NAMED]]
    if len(bad) > _MOST_NAMED:
        named.append(f"... and {len(bad) - _MOST_NAMED} more{advice}")
    head = f"{len(bad)} {'file is not an intact image' if len(bad) == 1 else 'files are not intact images'}:"
    text = "\n".join([head, *(f"    {line}" for line in named)])
    if policy == "error":
        raise InputError(text, remedies=["fix or remove them", 'set data.on_bad_image = "skip" to skip them'])
    _log.warning("skipped: %s", text)


def _fingerprint(digest: str, labels: NDArray[np.int64], class_names: tuple[str, ...]) -> str:
    """Equal exactly for the same decoded images in the same order under the same classes."""
    return hashlib.sha256(json.dumps([digest, labels.tolist(), class_names]).encode()).hexdigest()
