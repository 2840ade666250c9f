"""From a file to pixels: upright, in the right mode, covering the target, resized once with antialiasing.

It does not know where pixels are kept.
"""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ddpmkit.contracts import ImageShape

MAX_PIXELS = 100_000_000
"""A picture that claims more in its header is not decoded."""


class BadImage(Exception):
    """A file that is no whole picture; the text says why."""


def decode(path: Path, shape: ImageShape) -> NDArray[np.uint8]:
    """uint8 [C, H, W]: the centre of the picture at the scale at which it just covers the target.

    Transparency is laid on white, 16 bits are scaled to 8, the EXIF orientation is applied. Raises BadImage.
    """
    try:
        # Pillow warns of odd but readable metadata; the picture is what counts.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
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
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def decode_all(
    files: tuple[Path, ...], shape: ImageShape, workers: int
) -> tuple[list[NDArray[np.uint8]], dict[Path, str]]:
    """Every picture in order, and why the others are none. Threads: Pillow decodes and resizes without the GIL."""
    pictures: list[NDArray[np.uint8]] = []
    bad: dict[Path, str] = {}
    with ThreadPoolExecutor(workers) as pool:
        for path, outcome in zip(files, pool.map(_attempt(shape), files, chunksize=16), strict=True):
            if isinstance(outcome, BadImage):
                bad[path] = str(outcome)
            else:
                pictures.append(outcome)
    return pictures, bad


def _attempt(shape: ImageShape) -> Callable[[Path], NDArray[np.uint8] | BadImage]:
    def attempt(path: Path) -> NDArray[np.uint8] | BadImage:
        try:
            return decode(path, shape)
        except BadImage as error:
            return error

    return attempt


def _upright(opened: Image.Image, mode: str) -> Image.Image:
    picture = ImageOps.exif_transpose(opened)
    if picture.mode.startswith(("I", "F")):
        # Pillow clips 16 bits to 8 instead of scaling them.
        picture = Image.fromarray((np.asarray(picture).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    return picture.convert(mode)


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "it cannot be read (permission denied)"
    if path.is_file() and path.stat().st_size == 0:
        return "it is empty"
    if isinstance(error, Image.DecompressionBombError):
        return "its header claims more pixels than any photograph has"
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture that Pillow knows"
    return f"{type(error).__name__}: {error}"
