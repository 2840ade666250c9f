"""From a file to pixels: upright, in the right mode, covering the target, resized once with antialiasing.

It does not know where pixels are kept.
"""

import warnings
from collections.abc import Sequence
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
    """The pictures in order, uint8 [N, C, H, W], and why the other files are none.

    Threads: Pillow decodes and resizes without the GIL.
    """
    pixels = np.empty((len(files), *shape), dtype=np.uint8)

    def decode_into(row: int) -> str | None:
        try:
            pixels[row] = decode(files[row], shape)
        except BadImage as error:
            return str(error)
        return None

    # Pillow warns of odd but readable metadata; the picture is what counts. Here, because filters belong to the
    # process: threads that each set and restored them would leave them in disorder.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        outcomes = list(pool.map(decode_into, range(len(files))))
    bad = {path: why for path, why in zip(files, outcomes, strict=True) if why is not None}
    return (pixels[[why is None for why in outcomes]] if bad else pixels), bad


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
        return f"it cannot be read ({error.strerror.lower()})"
    if path.is_file() and path.stat().st_size == 0:
        return "it is empty"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "its header claims more pixels than any photograph has"
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture that Pillow knows"
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
