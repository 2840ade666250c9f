"""From a file to pixels: upright, in the right mode, covering the target, resized once with antialiasing.

It does not know where pixels are kept.
"""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ddpmkit.contracts import ImageShape
from ddpmkit_plugins.image_folder.refusal import refusal

MAX_PIXELS = 100_000_000
"""A picture that claims more in its header is not decoded."""


class BadImage(Exception):
    """A file that is no whole picture; the text says why."""


def decode(path: Path, shape: ImageShape) -> NDArray[np.uint8]:
    """uint8 [C, H, W]: the centre of the picture at the scale at which it just covers the target.

    Transparency is laid on white, 16 bits are scaled to 8, the EXIF orientation is applied. Raises BadImage.
    """
    try:
        if path.exists() and not path.is_file():
            raise BadImage("it is no file but a pipe, a socket or a device")  # to open one may take for ever
        with Image.open(path) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise BadImage(f"its header claims {width} x {height} pixels, more than are decoded")
            # JPEG can be decoded at 1/2, 1/4 or 1/8 of its size; twice the target keeps the resize faithful.
            opened.draft(None, (2 * max(shape.width, shape.height),) * 2)
            picture = _upright(opened, "L" if shape.channels == 1 else "RGB")
        fitted = ImageOps.fit(picture, (shape.width, shape.height), Image.Resampling.LANCZOS)
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(_reason(path, error)) from error
    pixels = np.asarray(fitted, dtype=np.uint8).reshape(shape.height, shape.width, shape.channels)
    return pixels.transpose(2, 0, 1)


def decode_all(files: Sequence[Path], shape: ImageShape, workers: int) -> tuple[NDArray[np.uint8], dict[Path, str]]:
    """The pictures in order, uint8 [N, C, H, W], and why the other files are none."""
    pixels = np.empty((len(files), *shape), dtype=np.uint8)
    bad = decode_each(files, shape, workers, pixels.__setitem__)
    return (pixels[[path not in bad for path in files]] if bad else pixels), bad


def decode_each(
    files: Sequence[Path],
    shape: ImageShape,
    workers: int,
    take: Callable[[int, NDArray[np.uint8]], None],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[Path, str]:
    """Hand each picture to `take` with its place in `files`, and say why the other files are none.

    Threads: Pillow decodes and resizes without the GIL. `progress` is told how many are done, and of how many.
    """

    def decode_one(place: int) -> str | None:
        try:
            take(place, decode(files[place], shape))
        except BadImage as error:
            return str(error)
        return None

    # Pillow warns of odd but readable metadata; the picture is what counts. Here, because filters belong to the
    # process: threads that each set and restored them would leave them in disorder.
    bad = {}
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        for place, why in enumerate(pool.map(decode_one, range(len(files)))):
            progress(place + 1, len(files))
            if why is not None:
                bad[files[place]] = why
    return bad


def _upright(opened: Image.Image, mode: str) -> Image.Image:
    picture = ImageOps.exif_transpose(opened)
    if picture.mode.startswith("I;16"):
        # Pillow clips 16 bits to 8 instead of scaling them.
        picture = Image.fromarray(((np.asarray(picture).astype(np.uint32) + 128) // 257).astype(np.uint8))
    elif picture.mode in ("I", "F"):
        raise BadImage("it has 32 bits a pixel, and nothing says which value is white: save it with 8 or 16")
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    return picture.convert(mode)


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror is not None:
        return refusal(path, error)
    if path.is_file() and path.stat().st_size == 0:
        return "it is empty"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "its header claims more pixels than any photograph has"
    if isinstance(error, UnidentifiedImageError):
        return "it is a web page" if _is_web_page(path) else "it is no picture that Pillow knows"
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def _is_web_page(path: Path) -> bool:
    """What servers send for a picture that they do not have."""
    with path.open("rb") as file:
        start = file.read(512).lower()
    return b"<html" in start or b"<!doctype html" in start
