"""From a file to pixels: upright, in the right mode, covering the target, resized once with antialiasing.

It does not know where pixels are kept.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ddpmkit.contracts import ImageShape
from ddpmkit.decoding import ImageFileError, covering, on_background, open_upright
from ddpmkit_plugins.image_folder.no_images import refusal

MAX_PIXELS = 100_000_000
"""A picture that claims more in its header is not decoded."""
_AHEAD = 8
"""Sources that are taken at once for each worker."""
_HELD = 2**26
"""Bytes of contents that lie in memory at once, and one source more."""
_START = 512
"""Bytes that tell a web page from a picture."""


class BadImage(Exception):
    """A file that is no whole picture; the text says why."""


Source = Path | bytes | BadImage
"""A file, the content of one, or why there is neither."""


def decode(source: Source, shape: ImageShape) -> NDArray[np.uint8]:
    """uint8 [C, H, W]: the centre of the picture at the scale at which it just covers the target.

    Transparency is laid on white, 16 bits are scaled to 8, the EXIF orientation is applied. Raises BadImage.
    """
    if isinstance(source, BadImage):
        raise source
    try:
        if isinstance(source, Path) and source.exists() and not source.is_file():
            raise BadImage("it is no file but a pipe, a socket or a device")  # to open one may take for ever
        # Twice the target keeps the resize faithful.
        upright = open_upright(source, enough=2 * max(shape.width, shape.height), most_pixels=MAX_PIXELS)
        image = on_background(upright.image, "white").convert("L" if shape.channels == 1 else "RGB")
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
    """The pictures by their places in 0 .. count-1, uint8 [N, C, H, W], and why the other places have none."""
    pixels = np.empty((count, *shape), dtype=np.uint8)
    bad = decode_each(sources, shape, workers, pixels.__setitem__)
    return (pixels[[place not in bad for place in range(count)]] if bad else pixels), bad


def decode_each(
    sources: Iterable[tuple[int, Source]],
    shape: ImageShape,
    workers: int,
    take: Callable[[int, NDArray[np.uint8]], None],
    progress: Callable[[int], None] = lambda _done: None,
) -> dict[int, str]:
    """Hand each picture to `take` with its place, and say by place why the other sources are none.

    Sources are taken in their order by this thread alone, and decoded by others: Pillow decodes and resizes without the
    GIL. `progress` is told how many are done.
    """

    def decode_one(placed: tuple[int, Source]) -> tuple[int, str | None]:
        place, source = placed
        try:
            take(place, decode(source, shape))
        except BadImage as error:
            return place, str(error)
        return place, None

    # Pillow warns of odd but readable metadata; the picture is what counts. Here, because filters belong to the
    # process: threads that each set and restored them would leave them in disorder.
    bad, done = {}, 0
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        for batch in _batches(sources, _AHEAD * workers):
            for place, why in pool.map(decode_one, batch):
                done += 1
                progress(done)
                if why is not None:
                    bad[place] = why
    return bad


def _batches(sources: Iterable[tuple[int, Source]], most: int) -> Iterator[list[tuple[int, Source]]]:
    batch: list[tuple[int, Source]] = []
    held = 0
    for place, source in sources:
        batch.append((place, source))
        held += len(source) if isinstance(source, bytes) else 0
        if len(batch) == most or held >= _HELD:
            yield batch
            batch, held = [], 0
    yield batch


def _reason(source: Path | bytes, error: Exception) -> str:
    if isinstance(source, Path) and isinstance(error, OSError) and error.strerror is not None:
        return refusal(source, error)
    start = source[:_START] if isinstance(source, bytes) else _start(source)
    if not start:
        return "it is empty"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "its header claims more pixels than any photograph has"
    if isinstance(error, UnidentifiedImageError):
        return "it is a web page" if _is_web_page(start) else "it is no picture that Pillow knows"
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_START)


def _is_web_page(start: bytes) -> bool:
    """What servers send for a picture that they do not have."""
    return b"<html" in start.lower() or b"<!doctype html" in start.lower()
