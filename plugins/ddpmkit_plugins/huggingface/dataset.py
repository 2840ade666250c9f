"""A dataset of the `datasets` package as one of pictures: decoded once, then mapped into memory.

It does not know where the rows come from, nor in what order they will be asked for.
"""

import contextlib
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ddpmkit.contracts import ImageShape
from ddpmkit.plugin import InputError, cache_folder
from ddpmkit_plugins.huggingface import HuggingFaceConfig
from ddpmkit_plugins.huggingface.loading import Rows, load_rows

VERSION = 1
"""Counts changes of the decoding: pictures decoded by another version are not used."""
_AT_ONCE = 256
_FEATURES = datasets.Features({"pixels": datasets.Value("binary")})
_log = logging.getLogger(__name__)


class HuggingFaceDataset:
    """One split, in the order of its rows."""

    def __init__(
        self, config: HuggingFaceConfig, *, split: str, classes: tuple[str, ...] | None, image_shape: ImageShape
    ) -> None:
        """Raises InputError for what cannot be loaded, names that are not there, and a row that is no picture."""
        with _no_progress_bars():
            rows = load_rows(config, split, classes)
            self._pixels = _decoded_once(config, rows, image_shape)
        self.class_names = rows.class_names
        self._shape = image_shape
        self._labels = rows.labels
        digest = hashlib.sha256()
        for start in range(0, len(rows.labels), _AT_ONCE):
            digest.update(b"".join(self._pixels[start : start + _AT_ONCE]["pixels"]))
        facts = [digest.hexdigest(), list(image_shape), self._labels.tolist(), self.class_names]
        self.fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def __len__(self) -> int:
        """How many pictures."""
        return len(self._labels)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 [B, C, H, W]."""
        # Not `bytes`, of which NumPy makes arrays that may not be written to.
        content = bytearray().join(self._pixels[indices.tolist()]["pixels"])
        return np.frombuffer(content, dtype=np.uint8).reshape(len(indices), *self._shape)

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [B]."""
        return self._labels[indices]


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


def _decoded_once(config: HuggingFaceConfig, rows: Rows, shape: ImageShape) -> datasets.Dataset:
    """The column `pixels`, bytes [C * H * W] a row: from the cache, or decoded and kept there."""
    if not rows.places:
        return datasets.Dataset.from_dict({"pixels": []}, features=_FEATURES)
    column = config.image_column
    # As they are in the files; `decode_row` makes pictures of them, several at a time.
    encoded = rows.dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))

    def decode(batch: dict[str, Any], numbers: list[int]) -> dict[str, list[bytes]]:
        # Pillow warns of odd but readable metadata; filters belong to the process, so they are set before the threads.
        with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
            warnings.simplefilter("ignore")
            return {"pixels": list(pool.map(decode_row, numbers, batch[column]))}

    def decode_row(number: int, value: dict[str, Any] | None) -> bytes:
        try:
            return _fitted(datasets.Image().decode_example(value), shape).tobytes()
        except Exception as error:
            raise InputError(
                f"row {rows.places[number]} in column {column!r} of split {rows.split!r} of {config.path} is no whole "
                f"picture: {error}",
                remedies=["leave it out with `filter` or `select` of the package datasets, and save_to_disk the rest"],
            ) from error

    def decoded(**where: Any) -> datasets.Dataset:
        return encoded.map(
            decode, with_indices=True, batched=True, batch_size=_AT_ONCE, remove_columns=[column], features=_FEATURES,
            load_from_cache_file=False, new_fingerprint=key, **where,
        )  # fmt: skip

    key = _key(config, rows, shape)
    file = cache_folder() / "huggingface" / f"{key}.arrow"
    if not rows.dataset.cache_files:  # it lives in memory, where nothing tells it from another one
        return decoded(keep_in_memory=True)
    if (kept := _kept(file, len(rows.labels))) is not None:
        return kept
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return decoded(cache_file_name=str(file))
    except OSError as error:
        _log.warning("pictures cannot be kept in %s (%s): the next start decodes again", file.parent, error)
        return decoded(keep_in_memory=True)


def _key(config: HuggingFaceConfig, rows: Rows, shape: ImageShape) -> str:
    """A hash of all that decides what the pixels are: cheap to compute, different when a file was written to."""
    files = [Path(entry["filename"]) for entry in rows.dataset.cache_files]
    seen = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    facts = [VERSION, seen, rows.split, rows.places, config.image_column, list(shape)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _kept(file: Path, count: int) -> datasets.Dataset | None:
    """None when there is nothing; when it is not what it should be, a warning says so."""
    if not file.is_file():
        return None
    try:
        found = datasets.Dataset.from_file(str(file))
        if (found.features, len(found)) != (_FEATURES, count):
            raise ValueError(f"it holds {len(found)} rows of {found.features}")
        return found
    except Exception as error:
        _log.warning("%s cannot be used, and the pictures are decoded again: %s", file, error)
        return None


def _fitted(picture: Image.Image, shape: ImageShape) -> NDArray[np.uint8]:
    """uint8 [C, H, W]: the centre at the scale that just covers the target; transparency on white, 16 bits as 8."""
    if picture.mode.startswith("I;16"):
        # Pillow clips 16 bits to 8 instead of scaling them.
        picture = Image.fromarray(((np.asarray(picture).astype(np.uint32) + 128) // 257).astype(np.uint8))
    elif picture.mode in ("I", "F"):
        raise ValueError("it has 32 bits a pixel, and nothing says which value is white")
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    picture = picture.convert("L" if shape.channels == 1 else "RGB")
    fitted = ImageOps.fit(picture, (shape.width, shape.height), Image.Resampling.LANCZOS)
    pixels = np.asarray(fitted, dtype=np.uint8).reshape(shape.height, shape.width, shape.channels)
    return pixels.transpose(2, 0, 1)
