from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ddpmkit.sampling.image_grid import grid, is_made_by, save_png, strip


def test_a_grid_contains_every_pixel_of_every_image_row_by_row() -> None:
    images = torch.arange(5, dtype=torch.uint8).mul(40).reshape(5, 1, 1, 1).expand(5, 3, 8, 12)
    pixels = np.asarray(grid(images))
    # 8 pixels are enlarged 12 times to 96; 3 columns and 2 rows, with margins of 2 pixels.
    assert pixels.shape == (2 * 98 + 2, 3 * 146 + 2, 3)
    for index in range(5):
        row, column = divmod(index, 3)
        assert (pixels[row * 98 + 2 : row * 98 + 98, column * 146 + 2 : column * 146 + 146] == 40 * index).all()


def test_enlarging_repeats_pixels() -> None:
    images = torch.randint(0, 250, (1, 3, 48, 48), dtype=torch.uint8)
    pixels = np.asarray(grid(images))[2:98, 2:98]
    assert np.array_equal(pixels[::2, ::2], images[0].permute(1, 2, 0).numpy())


def test_grayscale_stays_grayscale() -> None:
    assert grid(torch.zeros(4, 1, 16, 16, dtype=torch.uint8)).mode == "L"


def test_a_strip_has_a_row_per_image_and_a_column_per_moment(tmp_path: Path) -> None:
    moments = [torch.full((2, 3, 96, 96), 50 * number, dtype=torch.uint8) for number in range(3)]
    image = strip(moments, ["0 %", "50 %", "99 %"])
    pixels = np.asarray(image)
    assert image.size == (3 * 98 + 2, 2 * 98 + 2 + 28)
    for column in range(3):
        assert (pixels[28 + 2 : 28 + 98, column * 98 + 2 : column * 98 + 98] == 50 * column).all()
    saved = Image.open(save_png(image, tmp_path / "viz" / "strip.png"))
    assert np.array_equal(np.asarray(saved), pixels)


def test_only_an_intact_file_that_is_not_a_link_counts_as_made(tmp_path: Path) -> None:
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    made = save_png(grid(images), tmp_path / "a.png", {"seed": 1})
    intact = made.read_bytes()
    assert is_made_by(made, {"seed": 1})
    assert not is_made_by(made, {"seed": 2})
    for length in range(0, len(intact), 7):
        made.write_bytes(intact[:length])
        assert not is_made_by(made, {"seed": 1})
    outside = tmp_path / "outside.png"
    outside.write_bytes(intact)
    made.unlink()
    made.symlink_to(outside)
    assert not is_made_by(made, {"seed": 1})
