"""Pictures and masks that a user gives, at the size that a run draws.

It does not know what is done with them.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ddpmkit.errors import InputError
from ddpmkit.recipe import DataSection

__all__ = ["open_mask", "open_picture"]


def open_picture(path: Path, data: DataSection) -> Tensor:
    """uint8 [C, H, W], upright, scaled and cropped as pictures are that `data` trains on; transparency becomes white.

    Raises InputError for a file that is no picture.
    """
    with _opened(path) as opened:
        upright = _eight_bits(path, ImageOps.exif_transpose(opened))
        if upright.has_transparency_data:
            layered = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
        return _fitted(upright.convert("L" if data.channels == 1 else "RGB"), data)


def open_mask(path: Path, data: DataSection) -> Tensor:
    """bool [H, W], True where the mask is white (more light than dark), scaled and cropped as a picture is.

    What is transparent counts as black. Raises InputError for a file that is no picture.
    """
    with _opened(path) as opened:
        upright = _eight_bits(path, ImageOps.exif_transpose(opened)).convert("RGBA")
        light = Image.alpha_composite(Image.new("RGBA", upright.size, "black"), upright).convert("L")
        return _fitted(light, data)[0] > 127


def _opened(path: Path) -> Image.Image:
    if not path.is_file():
        raise InputError(f"there is no picture {path}.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd but readable metadata, and of sizes that are large but decoded.
            warnings.simplefilter("ignore")
            opened = Image.open(path)
            opened.load()
    except Exception as error:  # damaged pictures raise nearly anything, struct.error and SyntaxError included
        raise InputError(f"{path} is no picture that can be read: {error}", remedies=["a PNG or a JPEG"]) from error
    return opened


def _eight_bits(path: Path, picture: Image.Image) -> Image.Image:
    """Pillow clips 16 bits to 8 where it should scale them, and does not know what is white in 32."""
    if picture.mode in ("I", "F"):
        raise InputError(f"{path} has 32 bits a pixel, and nothing says which value is white.", remedies=["a PNG"])
    if picture.mode.startswith("I;16"):
        return Image.fromarray(((np.asarray(picture).astype(np.uint32) + 128) // 257).astype(np.uint8))
    return picture


def _fitted(picture: Image.Image, data: DataSection) -> Tensor:
    """The centre crop of what the dataset would deliver: `crop_margin` larger, and covered just so."""
    _, height, width = data.decoded_shape
    pixels = np.asarray(ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)).reshape(height, width, -1)
    top, left = (height - data.image_shape.height) // 2, (width - data.image_shape.width) // 2
    crop = pixels[top : top + data.image_shape.height, left : left + data.image_shape.width]
    return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))
