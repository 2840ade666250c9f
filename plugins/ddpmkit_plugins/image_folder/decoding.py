"""Decodes image files to pixels in parallel, and explains why a file cannot be decoded."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ddpmkit.contracts import ImageShape
from ddpmkit.decoding import ImageFileError, covering, open_upright, to_rgb8
from ddpmkit_plugins.image_folder.listing import why_unreadable

MAX_PIXELS = 100_000_000
"""An image that claims more pixels in its header is not decoded."""
_SOURCES_PER_WORKER = 8
"""How many sources are read ahead for each worker."""
_MOST_BYTES = 2**26
"""How many bytes of content are in memory at the same time, plus one source."""
_START = 512
"""Bytes that distinguish a web page from an image."""


class BadImage(Exception):
    """A file that is not an intact image; the text states why."""


Source = Path | bytes | BadImage
"""A file, the content of a file, or why there is no content."""


def decode(source: Source, shape: ImageShape) -> NDArray[np.uint8]:
    """uint8 [C, H, W]: the image, scaled so that it just covers `shape`, and cropped to its centre.

    Transparency becomes white, 16 bits are scaled to 8, and the EXIF orientation is applied. Raises BadImage.
    """
    if isinstance(source, BadImage):
        raise source
    try:
        if isinstance(source, Path) and source.exists() and not source.is_file():
            raise BadImage("it is a pipe, a socket or a device")  # opening it may block indefinitely
        # A JPEG decoded at twice the target size is still scaled down without visible loss.
        upright = open_upright(source, enough=2 * max(shape.width, shape.height), most_pixels=MAX_PIXELS)
        image = to_rgb8(upright.image, channels=shape.channels)
        return covering(image, upright.box, (shape.width, shape.height)).transpose(2, 0, 1)
    except BadImage:
        raise
    except ImageFileError as error:
        raise BadImage(str(error)) from error
    except Exception as error:
        raise BadImage(_reason(source, error)) from error


def decode_all(
    sources: Iterable[tuple[int, Source]], count: int, shape: ImageShape, workers: int
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Decode sources with their indices in 0 .. count-1: uint8 [N, C, H, W], and by index why others are missing."""
    pixels = np.empty((count, *shape), dtype=np.uint8)
    bad = decode_each(sources, shape, workers, pixels.__setitem__)
    return (pixels[[index not in bad for index in range(count)]] if bad else pixels), bad


def decode_each(
    sources: Iterable[tuple[int, Source]],
    shape: ImageShape,
    workers: int,
    take: Callable[[int, NDArray[np.uint8]], None],
    progress: Callable[[int], None] = lambda _done: None,
) -> dict[int, str]:
    """Pass each decoded image to `take` with its index; return by index why other sources cannot be decoded.

    This thread iterates over `sources`; other threads decode: Pillow decodes and resizes without the GIL. `progress`
    receives the number of sources processed.
    """

    def decode_one(indexed: tuple[int, Source]) -> tuple[int, str | None]:
        index, source = indexed
        try:
            take(index, decode(source, shape))
        except BadImage as error:
            return index, str(error)
        return index, None

    # Pillow warns about unusual metadata, which does not matter here. Warning filters are global to the process, so
    # they are set once here and not in each thread.
    bad, done = {}, 0
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        for batch in _batches(sources, _SOURCES_PER_WORKER * workers):
            for index, why in pool.map(decode_one, batch):
                done += 1
                progress(done)
                if why is not None:
                    bad[index] = why
    return bad


def _batches(sources: Iterable[tuple[int, Source]], most: int) -> Iterator[list[tuple[int, Source]]]:
    batch: list[tuple[int, Source]] = []
    size = 0
    for index, source in sources:
        batch.append((index, source))
        size += len(source) if isinstance(source, bytes) else 0
        if len(batch) == most or size >= _MOST_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def _reason(source: Path | bytes, error: Exception) -> str:
    if isinstance(source, Path) and isinstance(error, OSError) and error.strerror is not None:
        return why_unreadable(source, error)
    start = source[:_START] if isinstance(source, bytes) else _start(source)
    if not start:
        return "it is empty"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "its header claims more pixels than any photograph has"
    if isinstance(error, UnidentifiedImageError):
        return "it is a web page" if _is_web_page(start) else "it is not an image that Pillow can read"
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_START)


def _is_web_page(start: bytes) -> bool:
    """Servers send a web page in place of an image that does not exist."""
    return b"<html" in start.lower() or b"<!doctype html" in start.lower()
