"""Pictures and masks that a user gives, at the size that a run draws.

It does not know what is done with them.
"""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ddpmkit.errors import InputError
from ddpmkit.recipe import DataSection

__all__ = ["open_mask", "open_picture"]


def open_picture(path: Path, data: DataSection) -> Tensor:
    """uint8 [C, H, W], upright, scaled and cropped as pictures are that `data` trains on; transparency becomes white.

    Raises InputError for a file that is no picture.
    """
    upright = _upright(path, data)
    if upright.has_transparency_data:
        upright = _laid_on(upright, "white")
    return _fitted(upright.convert("L" if data.channels == 1 else "RGB"), data, Image.Resampling.LANCZOS)


def open_mask(path: Path, data: DataSection) -> Tensor:
    """bool [H, W], True where the mask is white (more light than dark), scaled and cropped as a picture is.

    What is transparent counts as black. Raises InputError for a file that is no picture.
    """
    light = _laid_on(_upright(path, data), "black").convert("L")
    # Not by Lanczos, which overshoots at edges: a pixel is as white as what it covers.
    return _fitted(light, data, Image.Resampling.BOX)[0] > 127


def _upright(path: Path, data: DataSection) -> Image.Image:
    """The whole picture, in a mode that Pillow converts faithfully."""
    if not path.is_file():
        raise InputError(f"there is no picture {path}.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd but readable metadata, and of sizes that are large but decoded.
            warnings.simplefilter("ignore")
            opened = Image.open(io.BytesIO(path.read_bytes()))
            # JPEG can be decoded at a fraction of its size; so does the dataset of picture files.
            opened.draft(None, (2 * max(data.decoded_shape[1:]),) * 2)
            opened.load()
            picture = ImageOps.exif_transpose(opened)
    except Exception as error:  # damaged pictures raise nearly anything, struct.error and SyntaxError included
        why = "its format is not known" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(f"{path} is no picture that can be read: {why}.", remedies=["a PNG or a JPEG"]) from error
    if picture.mode in ("I", "F"):
        raise InputError(
            f"{path} has 32 bits a pixel, and nothing says which value is white.", remedies=["save it with 8 or 16"]
        )
    if picture.mode.startswith("I;16"):
        # Pillow clips 16 bits to 8 instead of scaling them.
        return Image.fromarray(((np.asarray(picture).astype(np.uint32) + 128) // 257).astype(np.uint8))
    return picture


def _laid_on(picture: Image.Image, colour: str) -> Image.Image:
    layered = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layered.size, colour), layered)


def _fitted(picture: Image.Image, data: DataSection, resampling: Image.Resampling) -> Tensor:
    """The centre crop of what the dataset would deliver: `crop_margin` larger, and covered just so."""
    _, height, width = data.decoded_shape
    pixels = np.asarray(ImageOps.fit(picture, (width, height), resampling)).reshape(height, width, -1)
    top, left = (height - data.image_shape.height) // 2, (width - data.image_shape.width) // 2
    crop = pixels[top : top + data.image_shape.height, left : left + data.image_shape.width]
    return torch.from_numpy(crop.transpose(2, 0, 1).copy())
