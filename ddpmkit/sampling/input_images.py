"""Images and masks that a user provides, at the size that a run generates."""

import warnings
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ddpmkit.decoding import Box, ImageFileError, Upright, covering, on_background, open_upright, to_rgb8
from ddpmkit.errors import InputError
from ddpmkit.recipe import DataSection

__all__ = ["open_image", "open_mask"]


def open_image(path: Path, data: DataSection) -> Tensor:
    """Read an image as uint8 [C, H, W], upright, scaled and cropped as training images are; transparency becomes white.

    Raises InputError if the file cannot be read as an image.
    """
    image, box = _upright(path, data)
    return _fitted(to_rgb8(image, channels=data.channels), box, data, Image.Resampling.LANCZOS)


def open_mask(path: Path, data: DataSection) -> Tensor:
    """Read a mask as bool [H, W], True for white (brighter than middle grey), scaled and cropped as an image is.

    Transparent pixels count as black. Raises InputError if the file cannot be read as an image.
    """
    image, box = _upright(path, data)
    # Lanczos overshoots at edges. A box filter averages the area that a pixel covers.
    return _fitted(on_background(image, "black").convert("L"), box, data, Image.Resampling.BOX)[0] > 127


def _upright(path: Path, data: DataSection) -> Upright:
    if not path.is_file():
        raise InputError(f"image file {path} does not exist.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd but readable metadata, and of sizes that are large but decoded.
            warnings.simplefilter("ignore")
            # Twice the target size keeps the resize accurate. The image-folder dataset does the same.
            return open_upright(path.read_bytes(), enough=2 * max(data.decoded_shape[1:]))
    except ImageFileError as error:
        raise InputError(f"{path} cannot be used: {error}.") from error
    except Exception as error:  # damaged images raise nearly any exception, struct.error and SyntaxError included
        why = "unknown format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(f"{path} cannot be read as an image: {why}.", remedies=["use a PNG or JPEG file"]) from error


def _fitted(image: Image.Image, box: Box, data: DataSection, resampling: Image.Resampling) -> Tensor:
    """Resize to the size that the dataset decodes to, which is larger by `crop_margin`, and crop the centre."""
    _, height, width = data.decoded_shape
    pixels = covering(image, box, (width, height), resampling)
    top, left = (height - data.image_shape.height) // 2, (width - data.image_shape.width) // 2
    crop = pixels[top : top + data.image_shape.height, left : left + data.image_shape.width]
    return torch.from_numpy(crop.transpose(2, 0, 1).copy())
