"""Grids and strips of images as PNG files."""

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

from ddpmkit.atomic_io import atomic_write_bytes

__all__ = ["grid", "is_made_by", "save_png", "strip"]

_MARGIN = 2
"""Pixels between images."""
_TILE = 96
"""Images are enlarged by the smallest integer factor that makes their shorter side at least this many pixels."""
_BACKGROUND = 255
_CHUNK = "ddpmkit"
"""The text chunk of a PNG that contains what the image depends on."""


def grid(images: Tensor, columns: int | None = None) -> Image.Image:
    """Arrange uint8 [N, C, H, W] in one image, row by row. By default there are about as many columns as rows."""
    tiles = _enlarged(images)
    columns = columns or int(np.ceil(np.sqrt(len(tiles))))
    rows = -(-len(tiles) // columns)
    _, height, width, channels = tiles.shape
    step_y, step_x = height + _MARGIN, width + _MARGIN
    canvas = np.full((rows * step_y + _MARGIN, columns * step_x + _MARGIN, channels), _BACKGROUND, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        top, left = row * step_y + _MARGIN, column * step_x + _MARGIN
        canvas[top : top + height, left : left + width] = tile
    return Image.fromarray(canvas.squeeze(axis=2) if channels == 1 else canvas)


def strip(moments: Sequence[Tensor], captions: Sequence[str]) -> Image.Image:
    """Arrange moments of a process (uint8 [N, C, H, W] each) as columns with a caption each; every row is one image."""
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


def save_png(image: Image.Image, path: Path, made_by: Mapping[str, Any] | None = None) -> Path:
    """Write a PNG file atomically, and return its path.

    `made_by`: what the image depends on, as JSON data. It is saved in the file, for `is_made_by`.
    """
    encoded, chunks = io.BytesIO(), PngInfo()
    chunks.add_text("Software", "ddpmkit")  # a later run may replace files with this mark
    if made_by is not None:
        chunks.add_text(_CHUNK, json.dumps(made_by, sort_keys=True))
    image.save(encoded, format="PNG", pnginfo=chunks)
    return atomic_write_bytes(path, encoded.getvalue())


def is_made_by(path: Path, made_by: Mapping[str, Any]) -> bool:
    """Return whether `path` is an intact PNG, saved with this `made_by` or by an earlier version without any."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with Image.open(path, formats=["PNG"]) as image:
            chunk = image.info.get(_CHUNK)
            image.verify()  # by checksums, so that a truncated file is made again
            return chunk is None or json.loads(chunk) == made_by
    except Exception:  # damaged images raise nearly any exception, struct.error and SyntaxError included
        return False


def _enlarged(images: Tensor) -> NDArray[np.uint8]:
    """uint8 [N, C, H, W] -> [N, factor H, factor W, C], each pixel repeated."""
    factor = -(-_TILE // min(images.shape[2:]))
    pixels = images.permute(0, 2, 3, 1).numpy()
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)
