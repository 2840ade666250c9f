"""Grids and strips of images as PNG files.

It does not know what the images show.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ddpmkit.atomic_io import write_atomically

__all__ = ["grid", "is_made_by", "save_png", "strip"]

_MARGIN = 2
_TILE = 96
"""Tiles are enlarged by the whole factor that brings their shorter side to at least this many pixels."""
_BACKGROUND = 255
_NOTE = "ddpmkit"
"""The text chunk of a PNG that says what the image depends on."""


def grid(images: Tensor, columns: int | None = None) -> Image.Image:
    """uint8 [N, C, H, W] as one picture, row by row; about as many columns as rows unless told."""
    tiles = _enlarged(images)
    columns = columns or int(np.ceil(np.sqrt(len(tiles))))
    rows = -(-len(tiles) // columns)
    _, height, width, channels = tiles.shape
    step_y, step_x = height + _MARGIN, width + _MARGIN
    canvas = np.full((rows * step_y + _MARGIN, columns * step_x + _MARGIN, channels), _BACKGROUND, dtype=np.uint8)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        top, left = row * step_y + _MARGIN, column * step_x + _MARGIN
        canvas[top : top + height, left : left + width] = tile
    return Image.fromarray(canvas.squeeze(axis=2) if channels == 1 else canvas)


def strip(moments: Sequence[Tensor], captions: Sequence[str]) -> Image.Image:
    """One column a moment (uint8 [N, C, H, W] each), one row an image, a caption over each column."""
    by_image = torch.stack(list(moments), dim=1).flatten(0, 1)
    body = grid(by_image, columns=len(moments)).convert("RGB")
    header = 28
    canvas = Image.new("RGB", (body.width, body.height + header), "white")
    canvas.paste(body, (0, header))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    for column, caption in enumerate(captions):
        centre = (column + 0.5) * body.width / len(captions)
        pen.text((centre, header / 2), caption, fill=(60, 60, 60), font=font, anchor="mm")
    return canvas


def save_png(picture: Image.Image, path: Path, made_by: Mapping[str, Any] | None = None) -> Path:
    """Write it whole or not at all. `made_by`, plain JSON data, is what the image depends on; the file keeps it."""
    encoded, notes = io.BytesIO(), PngInfo()
    notes.add_text("Software", "ddpmkit")  # by which a later run knows that it may replace the file
    if made_by is not None:
        notes.add_text(_NOTE, json.dumps(made_by, sort_keys=True))
    picture.save(encoded, format="PNG", pnginfo=notes)
    return write_atomically(path, encoded.getvalue())


def is_made_by(path: Path, made_by: Mapping[str, Any]) -> bool:
    """Whether it is a whole image that depends on nothing else; one by an earlier version does not say, and counts."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            note = picture.info.get(_NOTE)
            picture.verify()  # by the checksums: a file that was cut short is made again
            return note is None or json.loads(note) == made_by
    except Exception:  # damaged images raise nearly anything, struct.error and SyntaxError included
        return False


def _enlarged(images: Tensor) -> NDArray[np.uint8]:
    factor = -(-_TILE // min(images.shape[2:]))
    pixels = images.permute(0, 2, 3, 1).numpy()
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)
