"""A dataset of the `datasets` package as one of images: decoded once, then mapped into memory."""

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
"""Counts changes of the decoding: images that were decoded by another version are not used."""
_AT_ONCE = 256
_GROUP = "huggingface"
"""Folder of the cache."""
_NAMED = 20
_log = logging.getLogger(__name__)


class HuggingFaceDataset:
    """One split, in the order of its rows."""

    def __init__(
        self, config: HuggingFaceConfig, *, split: str, classes: tuple[str, ...] | None, image_shape: ImageShape
    ) -> None:
        """Raises InputError for what cannot be loaded, unknown names and, by policy, rows that are not images."""
        with _no_progress_bars():
            rows = load_rows(config, split, classes)
            decoded = _decoded_once(config, rows, image_shape)
        if decoded.bad:
            _complain(config, rows, decoded.bad)
        kept = [str(place) not in decoded.bad for place in rows.places]
        self.class_names = rows.class_names
        self._pixels = decoded.pixels
        self._labels = rows.labels[np.array(kept, dtype=bool)]
        facts = [decoded.digest, list(image_shape), self._labels.tolist(), self.class_names]
        self.fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def __len__(self) -> int:
        """How many images."""
        return len(self._labels)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 [B, C, H, W]."""
        return np.asarray(self._pixels[indices])

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [B]."""
        return np.asarray(self._labels[indices])


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """The terminal is not ours. The package knows one switch for the whole process, which is put back."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _decoded_once(config: HuggingFaceConfig, rows: Rows, shape: ImageShape) -> Decoded:
    """The images of these rows: from the cache, or decoded and kept there."""
    bad: dict[str, str] = {}

    def batches() -> Iterator[NDArray[np.uint8]]:
        bad.clear()
        return _batches(rows, config.image_column, shape, bad)

    # A dataset in memory has no files by which it could be told from another one.
    if rows.places and rows.dataset.cache_files:
        key = _key(config, rows, shape)
        found = fetch(_GROUP, key, len(rows.places), shape)
        if found is None and store(_GROUP, key, shape, batches(), bad) is not None:
            found = fetch(_GROUP, key, len(rows.places), shape)
        if found is not None:
            return found
    pixels = np.concatenate([np.empty((0, *shape), dtype=np.uint8), *batches()])
    return Decoded(pixels, digest_of(pixels), bad)


def _batches(rows: Rows, column: str, shape: ImageShape, bad: dict[str, str]) -> Iterator[NDArray[np.uint8]]:
    """The images of all rows in order, some at a time; `bad` is told the place of each row that is not an image."""
    # As they are in the files: they are decoded here, several at a time.
    encoded = rows.dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))

    def decode(value: dict[str, Any] | None) -> NDArray[np.uint8] | str:
        try:
            return decode_row(value, shape)
        except Exception as error:  # damaged images raise nearly anything
            return str(error) or type(error).__name__

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(encoded), _AT_ONCE):
            values = encoded[start : start + _AT_ONCE][column]
            # Pillow warns of odd but readable metadata. Filters belong to the process: threads must not set them.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                decoded = list(pool.map(decode, values))
            places = rows.places[start : start + _AT_ONCE]
            bad |= {str(place): found for place, found in zip(places, decoded, strict=True) if isinstance(found, str)}
            whole = [found for found in decoded if not isinstance(found, str)]
            if whole:
                yield np.stack(whole)


def decode_row(value: Mapping[str, Any] | None, shape: ImageShape) -> NDArray[np.uint8]:
    """uint8 [C, H, W]: the centre at the scale that just covers the target; transparency becomes white."""
    if value is None or (value["bytes"] is None and value["path"] is None):
        raise ValueError("it is empty")
    content: bytes | Path = value["bytes"]
    if content is None:
        content = Path(value["path"])
        if not content.exists():  # it is the address of a file in an archive or on a server
            with fsspec.open(value["path"], "rb") as file:
                content = file.read()
        elif not content.is_file():
            raise ValueError(f"{content} is not a regular file")
    # Decoded whole, whatever its size, as since the first version: the pixels of a run must not change.
    upright = open_upright(content)
    image = to_rgb8(upright.image, channels=shape.channels)
    return covering(image, upright.box, (shape.width, shape.height)).transpose(2, 0, 1)


def _complain(config: HuggingFaceConfig, rows: Rows, bad: Mapping[str, str]) -> None:
    """Name the rows that are not images: as an error, or as a warning."""
    named = [f"    row {place}: {why}" for place, why in list(bad.items())[:_NAMED]]
    if len(bad) > _NAMED:
        named.append(f"    ... and {len(bad) - _NAMED} more")
    count = "1 row is not a whole image" if len(bad) == 1 else f"{len(bad)} rows are not whole images"
    text = "\n".join([f"{count}, in column {config.image_column!r} of split {rows.split!r} of {config.path}:", *named])
    if config.on_bad_image == "error":
        raise InputError(
            text,
            remedies=[
                "leave them out with `filter` or `select` of the package datasets, and save_to_disk the rest",
                'data.on_bad_image = "skip"  goes on without them',
            ],
        )
    _log.warning("skipped: %s", text)


def _key(config: HuggingFaceConfig, rows: Rows, shape: ImageShape) -> str:
    """A hash of all that decides what the pixels are: cheap to compute, different when a file was written to."""
    files = [Path(entry["filename"]) for entry in rows.dataset.cache_files]
    seen = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    facts = [VERSION, seen, rows.split, rows.places, config.image_column, list(shape)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
