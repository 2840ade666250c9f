"""Decodes image files (JPEG, PNG, TIFF, ...) to 8-bit pixels: upright, scaled and cropped to a size.

Datasets and images given by the user are decoded here, so that a file gives the same pixels everywhere. Plugins may
import this module.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from ddpmkit.image_metadata import without_metadata

__all__ = ["Box", "ImageFileError", "Upright", "covering", "on_background", "open_upright", "to_rgb8"]

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""

_ORIENTATION = 274
"""The tag of the orientation, in EXIF and in TIFF."""
# EXIF 2.32, section 4.6.4: the operation that turns an image with this orientation upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Each operation mirrors none, one or both axes, and then may swap x and y.
_MIRRORS_X = {_TURNS[2], _TURNS[3], _TURNS[7], _TURNS[8]}
_MIRRORS_Y = {_TURNS[3], _TURNS[4], _TURNS[6], _TURNS[7]}
_SWAPS_SIDES = {_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8]}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


class ImageFileError(ValueError):
    """The pixels of a file cannot be used. The text is a clause that begins with "it" or "its"."""


class Upright(NamedTuple):
    """An image that was turned upright.

    If a JPEG is decoded at a fraction of its size, only a part of the last pixel at an edge may belong to the image.
    `box` excludes the rest of that pixel.
    """

    image: Image.Image
    """Of mode 1, L, LA, P, RGB, RGBA or another that Pillow converts to these without loss."""
    box: Box
    """The part of `image` that contains the complete original image."""


def open_upright(file: Path | bytes, *, enough: int | None = None, most_pixels: int | None = None) -> Upright:
    """Decode an image file, given by its path or its content, and apply its EXIF orientation.

    A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size if both sides keep at least `enough` pixels. 16 bits are scaled
    to 8. Damaged metadata is ignored. Raises ImageFileError for an image with more than `most_pixels` pixels or without
    a defined white, and any of Pillow's exceptions for a damaged file.
    """
    try:
        return _open(file, enough, most_pixels)
    except ImageFileError:
        raise
    except Exception as error:
        # Damaged metadata raises nearly any exception, while opening and while loading. Try again without it.
        plain = without_metadata(file)
        if plain is None:
            raise
        try:
            return _open(plain, enough, most_pixels)
        except ImageFileError:
            raise
        except Exception:
            raise error from None


def to_rgb8(image: Image.Image, *, channels: int = 3) -> Image.Image:
    """Return the image as 8-bit RGB, or 8-bit gray if `channels` is 1: 16 bits are scaled, transparency becomes white.

    Raises ImageFileError for 32 bits per pixel.
    """
    return on_background(_eight_bits(image, stored_as=""), "white").convert("L" if channels == 1 else "RGB")


def on_background(image: Image.Image, colour: str) -> Image.Image:
    """Return the image on a background of one colour, which is visible where the image is transparent."""
    if not image.has_transparency_data:
        return image
    layered = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layered.size, colour), layered)


def covering(
    image: Image.Image, box: Box, size: tuple[int, int], resampling: Image.Resampling = Image.Resampling.LANCZOS
) -> NDArray[np.uint8]:
    """Scale the `box` of an image so that it just covers `size` (width, height), and crop its centre: [H, W, C]."""
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


def _open(file: Path | bytes, enough: int | None, most_pixels: int | None) -> Upright:
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as opened:
        width, height = opened.size
        if most_pixels is not None and width * height > most_pixels:
            raise ImageFileError(f"its header claims {width} x {height} pixels, more than the limit")
        drafted = opened.draft(None, (enough, enough)) if enough is not None else None
        stored_as = _raw_mode(opened)
        opened.load()
        turn = _TURNS.get(_orientation(opened))
        image = _eight_bits(opened, stored_as)
        box: Box = drafted[1] if drafted is not None else (0, 0, *image.size)
        if turn is not None:
            box = _turned(box, image.size, turn)
            image = image.transpose(turn)
        # The file is closed here; a copy keeps its pixels.
        return Upright(image.copy() if image is opened else image, box)


def _raw_mode(opened: Image.Image) -> str:
    """Pillow's name for how the file stores its samples, if it is known before loading; otherwise ""."""
    tiles = getattr(opened, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        # EXIF is a TIFF file inside the image: damage to it raises nearly any exception, and the pixels are intact.
        return 1


def _turned(box: Box, size: tuple[int, int], turn: Image.Transpose) -> Box:
    """Return where `box` is after the operation `turn` on an image of this `size`."""
    (left, top, right, bottom), (width, height) = box, size
    if turn in _MIRRORS_X:
        left, right = width - right, width - left
    if turn in _MIRRORS_Y:
        top, bottom = height - bottom, height - top
    return (top, left, bottom, right) if turn in _SWAPS_SIDES else (left, top, right, bottom)


def _eight_bits(image: Image.Image, stored_as: str) -> Image.Image:
    """Return the loaded image with 8 bits a sample, and with its transparency as a viewer shows it."""
    if image.mode in ("I", "F"):
        raise ImageFileError("it has 32 bits per pixel and no defined white: save it with 8 or 16 bits")
    transparent = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        return _from_16_bits(image, transparent)
    # A PNG file gives its transparent value at its own bit depth, which Pillow compares with 8 bits.
    if stored_as in ("L;2", "L;4") and isinstance(transparent, int):
        image.info["transparency"] = transparent * (85 if stored_as == "L;2" else 17)
    elif stored_as == "RGB;16B" and isinstance(transparent, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    return image


def _from_16_bits(image: Image.Image, transparent: object) -> Image.Image:
    """Scale gray of 16 bits (of 12 in some TIFF files) to 8: Pillow clips it instead."""
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
