"""From an image file (JPEG, PNG, TIFF, ...) to 8-bit pixels: upright, and scaled to cover the size that is wanted.

Datasets, and the images that a user gives, are read with this, so that one file gives the same pixels everywhere.
Plugins may use it too.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from ddpmkit.image_metadata import without_metadata

__all__ = ["Box", "ImageFileError", "Upright", "covering", "on_background", "open_upright"]

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""

_ORIENTATION = 274
"""Number of the tag, in EXIF and in TIFF."""
# EXIF 2.32, section 4.6.4: what turns an image with this orientation upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Each turn is a mirroring of none, one or both axes, after which x and y may change places.
_MIRRORS_X = {_TURNS[2], _TURNS[3], _TURNS[7], _TURNS[8]}
_MIRRORS_Y = {_TURNS[3], _TURNS[4], _TURNS[6], _TURNS[7]}
_SWAPS_SIDES = {_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8]}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


class ImageFileError(ValueError):
    """A file whose pixels cannot be used; the text is a clause that begins with "it" or "its"."""


class Upright(NamedTuple):
    """An image that is turned upright.

    A JPEG that is decoded at a fraction of its size has up to one pixel more at an edge, of which only a part belongs
    to the photograph: `box` says which.
    """

    image: Image.Image
    """Of mode 1, L, LA, P, RGB, RGBA or another that Pillow converts faithfully to these."""
    box: Box
    """The part of `image` that shows the whole photograph."""


def open_upright(file: Path | bytes, *, enough: int | None = None, most_pixels: int | None = None) -> Upright:
    """Decode an image file, given by its path or its content, and turn it as its EXIF orientation says.

    A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size if both sides keep `enough` pixels. 16 bits become 8. Metadata
    that cannot be read is skipped. Raises ImageFileError for an image with more than `most_pixels` or without a known
    white, and any of Pillow's exceptions for a file that is not a whole image.
    """
    try:
        return _opened(file, enough, most_pixels)
    except ImageFileError:
        raise
    except Exception as error:
        # Damaged metadata raises nearly anything, in opening and in loading. Whether it was that shows without it.
        plain = without_metadata(file)
        if plain is None:
            raise
        try:
            return _opened(plain, enough, most_pixels)
        except ImageFileError:
            raise
        except Exception:
            raise error from None


def on_background(image: Image.Image, colour: str) -> Image.Image:
    """The image on a background of one colour, where it is transparent."""
    if not image.has_transparency_data:
        return image
    layered = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layered.size, colour), layered)


def covering(
    image: Image.Image, box: Box, size: tuple[int, int], resampling: Image.Resampling = Image.Resampling.LANCZOS
) -> NDArray[np.uint8]:
    """The centre of the `box` of an image at the scale at which it just covers `size` (width, height): [H, W, C]."""
    width, height = size
    left, top, right, bottom = box
    ratio = width / height
    across, down = right - left, bottom - top
    if across / down >= ratio:
        across = ratio * down
    else:
        down = across / ratio
    left += (right - left - across) / 2
    top += (bottom - top - down) / 2
    fitted = image.resize(size, resampling, box=(left, top, left + across, top + down))
    return np.asarray(fitted, dtype=np.uint8).reshape(height, width, -1)


def _opened(file: Path | bytes, enough: int | None, most_pixels: int | None) -> Upright:
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as opened:
        width, height = opened.size
        if most_pixels is not None and width * height > most_pixels:
            raise ImageFileError(f"its header claims {width} x {height} pixels, more than are decoded")
        drafted = opened.draft(None, (enough, enough)) if enough is not None else None
        stored_as = _raw_mode(opened)
        opened.load()
        turn = _TURNS.get(_orientation(opened))
        image = _eight_bits(opened, stored_as)
        box: Box = drafted[1] if drafted is not None else (0, 0, *image.size)
        if turn is not None:
            box = _turned(box, image.size, turn)
            image = image.transpose(turn)
        # The file is closed here; an image that is still the opened one keeps its pixels.
        return Upright(image.copy() if image is opened else image, box)


def _raw_mode(opened: Image.Image) -> str:
    """How the file stores its samples, in Pillow's words, if the format says it and nothing is loaded yet."""
    tiles = getattr(opened, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        # EXIF is a whole TIFF file inside the image: damage to it raises nearly anything. The pixels are whole.
        return 1


def _turned(box: Box, size: tuple[int, int], turn: Image.Transpose) -> Box:
    """Where the box is in an image of this `size` after the turn."""
    (left, top, right, bottom), (width, height) = box, size
    if turn in _MIRRORS_X:
        left, right = width - right, width - left
    if turn in _MIRRORS_Y:
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if turn in _SWAPS_SIDES else (left, top, right, bottom)


def _eight_bits(image: Image.Image, stored_as: str) -> Image.Image:
    """The loaded image with 8 bits a sample, and with its transparency as people see it."""
    if image.mode in ("I", "F"):
        raise ImageFileError("it has 32 bits a pixel, and nothing says which value is white: save it with 8 or 16")
    transparent = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        return _from_16_bits(image, transparent)
    # A PNG file names its transparent value in its own depth, which Pillow compares with 8 bits.
    if stored_as in ("L;2", "L;4") and isinstance(transparent, int):
        image.info["transparency"] = transparent * (85 if stored_as == "L;2" else 17)
    elif stored_as == "RGB;16B" and isinstance(transparent, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    return image


def _from_16_bits(image: Image.Image, transparent: object) -> Image.Image:
    """Gray of 16 bits (of 12 in some TIFF files), which Pillow clips to 8 bits instead of scaling it."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    bits = int(tags.get(_BITS_PER_SAMPLE, (16,))[0])
    white = 2**bits - 1
    values = np.asarray(image).astype(np.uint32)
    gray = Image.fromarray(((np.minimum(values, white) * 255 + (white + 1) // 2) // white).astype(np.uint8))
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        gray = gray.point(lambda value: 255 - value)
    if isinstance(transparent, int):
        opaque = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
        return Image.merge("LA", (gray, opaque))
    return gray
