"""Images and masks that a user gives, at the size that a run generates."""

import warnings
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ddpmkit.decoding import Box, ImageFileError, Upright, covering, on_background, open_upright
from ddpmkit.errors import InputError
from ddpmkit.recipe import DataSection

__all__ = ["open_mask", "open_picture"]


def open_picture(path: Path, data: DataSection) -> Tensor:
    """uint8 [C, H, W], upright, scaled and cropped as pictures are that `data` trains on; transparency becomes white.

    Raises InputError for a file that is no picture.
    """
    image, box = _upright(path, data)
    image = on_background(image, "white").convert("L" if data.channels == 1 else "RGB")
    return _fitted(image, box, data, Image.Resampling.LANCZOS)


def open_mask(path: Path, data: DataSection) -> Tensor:
    """bool [H, W], True where the mask is white (more light than dark), scaled and cropped as a picture is.

    What is transparent counts as black. Raises InputError for a file that is no picture.
    """
    image, box = _upright(path, data)
    # Not by Lanczos, which overshoots at edges: a pixel is as white as what it covers.
    return _fitted(on_background(image, "black").convert("L"), box, data, Image.Resampling.BOX)[0] > 127


def _upright(path: Path, data: DataSection) -> Upright:
    if not path.is_file():
        raise InputError(f"there is no picture {path}.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd but readable metadata, and of sizes that are large but decoded.
            warnings.simplefilter("ignore")
            # Twice the target keeps the resize faithful; so does the dataset of image files.
            return open_upright(path.read_bytes(), enough=2 * max(data.decoded_shape[1:]))
    except ImageFileError as error:
        raise InputError(f"{path} cannot be used: {error}.") from error
    except Exception as error:  # damaged images raise nearly anything, struct.error and SyntaxError included
        why = "its format is not known" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(f"{path} is no picture that can be read: {why}.", remedies=["a PNG or a JPEG"]) from error


def _fitted(image: Image.Image, box: Box, data: DataSection, resampling: Image.Resampling) -> Tensor:
    """The centre crop of what the dataset would deliver: `crop_margin` larger, and covered just so."""
    _, height, width = data.decoded_shape
    pixels = covering(image, box, (width, height), resampling)
    top, left = (height - data.image_shape.height) // 2, (width - data.image_shape.width) // 2
    crop = pixels[top : top + data.image_shape.height, left : left + data.image_shape.width]
    return torch.from_numpy(crop.transpose(2, 0, 1).copy())
