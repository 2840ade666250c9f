"""Images that a user provides, compared with the same files as the image-folder dataset reads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ddpmkit.data.images import ImageSource
from ddpmkit.errors import InputError
from ddpmkit.recipe import DataSection
from ddpmkit.sampling.input_images import open_image, open_mask
from ddpmkit_plugins.image_folder import ImageFolderConfig
from ddpmkit_plugins.image_folder.dataset import ImageFolder

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 90, 4), dtype=np.uint8)


def section(**values: Any) -> DataSection:
    return DataSection.model_validate({"use": "image-folder", "image_size": 16, **values})


def as_trained_on(path: Path, data: DataSection, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    monkeypatch.setenv("DDPMKIT_CACHE", str(path.parent / "cache"))
    root = path.parent.parent.parent
    dataset = ImageFolder(
        ImageFolderConfig(root=str(root)), split="train", classes=None, image_shape=data.decoded_shape
    )  # fmt: skip
    return ImageSource(dataset, data.image_shape).center_crops(np.arange(1))[0]


def _rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS[:, :, :3]).save(path, exif=exif)


FILES: dict[str, Callable[[Path], None]] = {
    "wide.png": lambda path: Image.fromarray(PIXELS[:, :, :3]).save(path),
    "transparent.png": lambda path: Image.fromarray(PIXELS).save(path),
    "palette.png": lambda path: Image.fromarray(PIXELS[:, :, 0]).convert("P").save(path, transparency=7),
    "grey.png": lambda path: Image.fromarray(PIXELS[:, :, 0]).save(path),
    "deep.png": lambda path: Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257).save(path),
    "large.jpg": lambda path: Image.fromarray(PIXELS[:, :, :3]).resize((900, 700)).save(path),
    "rotated.jpg": _rotated,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "values", [{}, {"channels": 1}, {"image_size": (20, 12), "crop_margin": 1.3}], ids=["plain", "grey", "margin"]
)
def test_an_image_is_read_as_the_dataset_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, values: dict[str, Any]
) -> None:
    path = tmp_path / "train" / "cat" / name
    path.parent.mkdir(parents=True)
    FILES[name](path)
    data = section(**values)
    given = open_image(path, data)
    assert given.shape == data.image_shape
    assert torch.equal(given, as_trained_on(path, data, monkeypatch))


def test_in_a_mask_white_is_true_and_black_and_transparent_are_false(tmp_path: Path) -> None:
    light = np.zeros((32, 64), dtype=np.uint8)
    light[:16], light[16:, :32] = 255, 120
    expected = (torch.arange(16) < 8)[:, None].expand(16, 16)
    Image.fromarray(light).save(tmp_path / "grey.png")
    assert torch.equal(open_mask(tmp_path / "grey.png", section()), expected)
    # White everywhere, and transparent wherever the mask is False.
    layered = np.dstack([*[np.full_like(light, 255)] * 3, light])
    Image.fromarray(layered).save(tmp_path / "alpha.png")
    assert torch.equal(open_mask(tmp_path / "alpha.png", section(channels=1)), expected)
    Image.fromarray(light > 127).save(tmp_path / "bits.png")
    assert torch.equal(open_mask(tmp_path / "bits.png", section()), expected)


@pytest.mark.parametrize("opened", [open_image, open_mask])
def test_an_unreadable_file_is_named(tmp_path: Path, opened: Callable[[Path, DataSection], Tensor]) -> None:
    with pytest.raises(InputError, match=r"image file .*missing\.png does not exist"):
        opened(tmp_path / "missing.png", section())
    with pytest.raises(InputError, match="does not exist"):
        opened(tmp_path, section())
    text = tmp_path / "text.png"
    text.write_text("not an image")
    with pytest.raises(InputError, match=r"text\.png cannot be read as an image: unknown format"):
        opened(text, section())
    FILES["wide.png"](whole := tmp_path / "whole.png")
    (cut := tmp_path / "cut.png").write_bytes(whole.read_bytes()[:4000])
    with pytest.raises(InputError, match=r"cut\.png cannot be read as an image"):
        opened(cut, section())
    Image.fromarray(np.zeros((20, 20), dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(InputError, match="32 bits per pixel"):
        opened(tmp_path / "float.tif", section())
