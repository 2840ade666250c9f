"""Reads images from a dataset of the package `datasets`: decoded once, cached, then memory-mapped."""

import contextlib
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import fsspec
import numpy as np
from numpy.typing import NDArray

from ddpmkit.contracts import ImageShape
from ddpmkit.decoding import covering, open_upright, to_rgb8
from ddpmkit.pixel_cache import Decoded, digest_of, fetch, store
from ddpmkit.plugin import InputError
from ddpmkit_plugins.huggingface import HuggingFaceConfig
from ddpmkit_plugins.huggingface.loading import Rows, load_rows

VERSION = 2
"""Increased when the decoding changes: images that another version decoded are not used."""
_BATCH_SIZE = 256
_GROUP = "huggingface"
"""Folder of the cache."""
_MOST_NAMED = 20
_log = logging.getLogger(__name__)


class HuggingFaceDataset:
    """One split, in the order of its rows."""

    def __init__(
        self, config: HuggingFaceConfig, *, split: str, classes: tuple[str, ...] | None, image_shape: ImageShape
    ) -> None:
        """Raises InputError if loading fails, for unknown names and, unless "skip", for rows that are not images."""
        with _no_progress_bars():
            rows = load_rows(config, split, classes)
            decoded = _decode_once(config, rows, image_shape)
        if decoded.bad:
            _report_bad(config, rows, decoded.bad)
        is_good = [str(index) not in decoded.bad for index in rows.indices]
        self.class_names = rows.class_names
        self._pixels = decoded.pixels
        self._labels = rows.labels[np.array(is_good, dtype=bool)]
        facts = [decoded.digest, list(image_shape), self._labels.tolist(), self.class_names]
        self.fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def __len__(self) -> int:
        """The number of images."""
        return len(self._labels)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 [B, C, H, W]."""
        return np.asarray(self._pixels[indices])

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [B]."""
        return np.asarray(self._labels[indices])


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Disable the progress bars of the package, which has one switch for the process, and restore the switch."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _decode_once(config: HuggingFaceConfig, rows: Rows, shape: ImageShape) -> Decoded:
    """The images of these rows: from the cache, or decoded and cached."""
    bad: dict[str, str] = {}

    def batches() -> Iterator[NDArray[np.uint8]]:
        bad.clear()
        return _batches(rows, config.image_column, shape, bad)

    # A dataset in memory has no files that could identify it in the cache.
    if rows.indices and rows.dataset.cache_files:
        key = _key(config, rows, shape)
        found = fetch(_GROUP, key, len(rows.indices), shape)
        if found is None and store(_GROUP, key, shape, batches(), bad) is not None:
            found = fetch(_GROUP, key, len(rows.indices), shape)
        if found is not None:
            return found
    pixels = np.concatenate([np.empty((0, *shape), dtype=np.uint8), *batches()])
    return Decoded(pixels, digest_of(pixels), bad)


def _batches(rows: Rows, column: str, shape: ImageShape, bad: dict[str, str]) -> Iterator[NDArray[np.uint8]]:
    """The images of all rows in order, in batches. Rows that are not images are added to `bad`, by index."""
    # The encoded files: images are decoded below, in parallel.
    encoded = rows.dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))

    def decode(value: dict[str, Any] | None) -> NDArray[np.uint8] | str:
        try:
            return decode_row(value, shape)
        except Exception as error:  # damaged images raise nearly anything
            return str(error) or type(error).__name__

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(encoded), _BATCH_SIZE):
            values = encoded[start : start + _BATCH_SIZE][column]
            # Pillow warns about unusual metadata. Warning filters are global, so threads must not set them.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                decoded = list(pool.map(decode, values))
            indices = rows.indices[start : start + _BATCH_SIZE]
            bad |= {str(index): found for index, found in zip(indices, decoded, strict=True) if isinstance(found, str)}
            good = [found for found in decoded if not isinstance(found, str)]
            if good:
                yield np.stack(good)


def decode_row(value: Mapping[str, Any] | None, shape: ImageShape) -> NDArray[np.uint8]:
    """uint8 [C, H, W]: the image, scaled so that it just covers `shape`, and cropped; transparency becomes white."""
    if value is None or (value["bytes"] is None and value["path"] is None):
        raise ValueError("it is empty")
    content: bytes | Path = value["bytes"]
    if content is None:
        content = Path(value["path"])
        if not content.exists():  # a URL, or a file in an archive
            with fsspec.open(value["path"], "rb") as file:
                content = file.read()
        elif not content.is_file():
            raise ValueError(f"{content} is not a regular file")
    # JPEGs are decoded at full size, as in the first version: the pixels of a run must not change.
    upright = open_upright(content)
    image = to_rgb8(upright.image, channels=shape.channels)
    return covering(image, upright.box, (shape.width, shape.height)).transpose(2, 0, 1)


def _report_bad(config: HuggingFaceConfig, rows: Rows, bad: Mapping[str, str]) -> None:
    """Name the rows that are not images: as an error or as a warning."""
    named = [f"    row {index}: {why}" for index, why in list(bad.items())[:_MOST_NAMED]]
    if len(bad) > _MOST_NAMED:
        named.append(f"    ... and {len(bad) - _MOST_NAMED} more")
    count = "1 row is not an intact image" if len(bad) == 1 else f"{len(bad)} rows are not intact images"
    text = "\n".join([f"{count}, in column {config.image_column!r} of split {rows.split!r} of {config.path}:", *named])
    if config.on_bad_image == "error":
        raise InputError(
            text,
            remedies=[
                "remove them with `filter` or `select` of the package datasets, then use `save_to_disk`",
                'set data.on_bad_image = "skip" to skip them',
            ],
        )
    _log.warning("skipped: %s", text)


def _key(config: HuggingFaceConfig, rows: Rows, shape: ImageShape) -> str:
    """A hash of everything that the pixels depend on; files count by size and time, and are not read."""
    files = [Path(entry["filename"]) for entry in rows.dataset.cache_files]
    seen = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    facts = [VERSION, seen, rows.split, rows.indices, config.image_column, list(shape)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
