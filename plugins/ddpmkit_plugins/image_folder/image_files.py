"""Decoded pictures as a dataset: decoded once, in parallel, then mapped into memory.

It does not know whether they come from a folder or from an archive, nor in what order they will be asked for.
"""

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
from ddpmkit_plugins.image_folder.cache import GROUP
from ddpmkit_plugins.image_folder.decoding import Source, decode_all
from ddpmkit_plugins.image_folder.listing import Listing

WORKERS = os.cpu_count() or 1
_NAMED = 20
_log = logging.getLogger(__name__)


class Pictures:
    """One split, by class and name."""

    def __init__(self, root: Path, listing: Listing, decoded: Decoded, on_bad_image: str, advice: str) -> None:
        """`root` is what the names of bad files are below, and `advice` where to see all of them.

        Raises InputError, by policy, for files that are no pictures.
        """
        bad = {root / name: why for name, why in decoded.bad.items()}
        if bad:
            _complain(bad, on_bad_image, advice)
        kept = [label for path, label in zip(listing.files, listing.labels, strict=True) if path not in bad]
        self.class_names = listing.class_names
        self._pixels = decoded.pixels
        self._labels = np.array(kept, dtype=np.int64)
        self.fingerprint = _fingerprint(decoded.digest, self._labels, self.class_names)

    def __len__(self) -> int:
        """How many pictures."""
        return len(self._labels)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 [B, C, H, W]."""
        return np.asarray(self._pixels[indices])

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [B]."""
        return self._labels[indices]


def decoded_once(
    key: str,
    root: Path,
    split: str,
    files: Sequence[Path],
    shape: ImageShape,
    sources: Callable[[], Iterable[tuple[int, Source]]],
    is_current: Callable[[Decoded], bool] = lambda _found: True,
) -> Decoded:
    """What is kept under `key`, or else the `sources` of `files` decoded and kept there."""
    found = fetch(GROUP, key, len(files), shape)
    if found is not None and is_current(found):
        return found
    started = time.perf_counter()
    pixels, bad = decode_all(sources(), len(files), shape, WORKERS)
    names = {files[place].relative_to(root).as_posix(): bad[place] for place in sorted(bad)}
    kept_in = store(GROUP, key, shape, [pixels], names) if files else None
    if kept_in is not None:
        seconds = time.perf_counter() - started
        _log.info("decoded %d %s images of %s in %.1f s, kept in %s", len(pixels), split, root, seconds, kept_in)
        # From now on mapped, as at every later start: the memory that they were decoded into is free again.
        found = fetch(GROUP, key, len(files), shape)
        if found is not None:
            return found
    return Decoded(pixels, digest_of(pixels), names)


def _complain(bad: Mapping[Path, str], policy: str, advice: str) -> None:
    """Name the files that are no pictures: as an error, or as a warning."""
    named = [f"{path}: {why}" for path, why in list(bad.items())[:_NAMED]]
    if len(bad) > _NAMED:
        named.append(f"... and {len(bad) - _NAMED} more{advice}")
    head = f"{len(bad)} {'file is no whole picture' if len(bad) == 1 else 'files are no whole pictures'}:"
    text = "\n".join([head, *(f"    {line}" for line in named)])
    if policy == "error":
        raise InputError(text, remedies=["remove or mend them", 'data.on_bad_image = "skip" goes on without them'])
    _log.warning("going on without %s", text)


def _fingerprint(digest: str, labels: NDArray[np.int64], class_names: tuple[str, ...]) -> str:
    """Equal exactly when the same decoded pictures come in the same order under the same classes."""
    return hashlib.sha256(json.dumps([digest, labels.tolist(), class_names]).encode()).hexdigest()
