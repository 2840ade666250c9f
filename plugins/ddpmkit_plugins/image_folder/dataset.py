"""Pictures in folders as a dataset: decoded once, in parallel, then mapped into memory.

It does not know in what order they will be asked for.
"""

import hashlib
import json
import logging
import os
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpmkit.contracts import ImageShape, Inspection
from ddpmkit.plugin import InputError
from ddpmkit_plugins.image_folder import ImageFolderConfig, cache
from ddpmkit_plugins.image_folder.decoding import decode_all
from ddpmkit_plugins.image_folder.inspection import inspect_folder
from ddpmkit_plugins.image_folder.listing import Listing, list_pictures

_NAMED = 20
_WORKERS = os.cpu_count() or 1
_log = logging.getLogger(__name__)


class ImageFolder:
    """One split of `root/<split>/<class>/*`."""

    def __init__(
        self, config: ImageFolderConfig, *, split: str, classes: tuple[str, ...] | None, image_shape: ImageShape
    ) -> None:
        """Raises InputError for folders that are not there and, by policy, for files that are no pictures."""
        root = Path(config.root).expanduser()
        listing = list_pictures(root, split, classes)
        decoded = _decoded(root, split, listing, image_shape)
        bad = {root / name: why for name, why in decoded.bad.items()}
        if bad:
            _complain(root, bad, config.on_bad_image)
        kept = [label for path, label in zip(listing.files, listing.labels, strict=True) if path not in bad]
        self.class_names = listing.class_names
        self._pixels = decoded.pixels
        self._labels = np.array(kept, dtype=np.int64)
        self.fingerprint = _fingerprint(decoded.digest, self._labels, self.class_names)

    @classmethod
    def inspect(
        cls,
        config: ImageFolderConfig,
        *,
        classes: tuple[str, ...] | None,
        image_shape: ImageShape,
        progress: Callable[[int, int], None],
    ) -> Inspection:
        """Every file of both splits, whatever the cache says. Raises InputError for folders that cannot be used."""
        return inspect_folder(Path(config.root).expanduser(), classes, image_shape, _WORKERS, progress)

    def __len__(self) -> int:
        """How many pictures."""
        return len(self._labels)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 [B, C, H, W]."""
        return np.asarray(self._pixels[indices])

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [B]."""
        return self._labels[indices]


def _decoded(root: Path, split: str, listing: Listing, shape: ImageShape) -> cache.Decoded:
    """The pictures of a listing, from the cache when they are there."""
    key = cache.listing_key(root, listing.files, shape)
    found = cache.fetch(key, len(listing.files), shape)
    if found is not None and not _is_mended([root / name for name in found.bad], shape):
        return found
    started = time.perf_counter()
    pixels, bad = decode_all(listing.files, shape, _WORKERS)
    digest = hashlib.sha256(pixels.data).hexdigest()
    decoded = cache.Decoded(pixels, digest, {path.relative_to(root).as_posix(): why for path, why in bad.items()})
    kept_in = cache.store(key, decoded) if listing.files else None
    if kept_in is None:
        return decoded
    seconds = time.perf_counter() - started
    _log.info("decoded %d %s pictures of %s in %.1f s, kept in %s", len(pixels), split, root, seconds, kept_in)
    # From now on mapped, as at every later start: the memory that they were decoded into is free again.
    return cache.fetch(key, len(listing.files), shape) or decoded


def _is_mended(files: list[Path], shape: ImageShape) -> bool:
    """Whether some of these bad files can be decoded by now: permission granted, for one, changes no date."""
    return bool(files) and len(decode_all(files, shape, _WORKERS)[1]) < len(files)


def _complain(root: Path, bad: Mapping[Path, str], policy: str) -> None:
    """Name the files that are no pictures: as an error, or as a warning."""
    named = [f"{path}: {why}" for path, why in list(bad.items())[:_NAMED]]
    if len(bad) > _NAMED:
        named.append(f"... and {len(bad) - _NAMED} more: `ddpmkit data check {shlex.quote(str(root))}` lists them all")
    head = f"{len(bad)} {'file is no whole picture' if len(bad) == 1 else 'files are no whole pictures'}:"
    text = "\n".join([head, *(f"    {line}" for line in named)])
    if policy == "error":
        raise InputError(text, remedies=["remove or mend them", 'data.on_bad_image = "skip" goes on without them'])
    _log.warning("going on without %s", text)


def _fingerprint(digest: str, labels: NDArray[np.int64], class_names: tuple[str, ...]) -> str:
    """Equal exactly when the same decoded pictures come in the same order under the same classes."""
    return hashlib.sha256(json.dumps([digest, labels.tolist(), class_names]).encode()).hexdigest()
