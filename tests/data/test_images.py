import math
from collections import Counter

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddpmkit.contracts import ImageShape
from ddpmkit.data.images import ImageSource, evenly_spread, to_float, to_uint8
from ddpmkit.errors import RunFailed


class Numbered:
    """Image i has the pixels 10 i + column, which show crops and flips."""

    class_names = ("a",)
    fingerprint = "numbered"

    def __init__(self, length: int, height: int = 8, width: int = 8) -> None:
        self.shape = (length, 3, height, width)
        columns = np.arange(width, dtype=np.uint8)
        self.pixels = np.broadcast_to(
            (10 * np.arange(length, dtype=np.uint8))[:, None, None, None] + columns, self.shape
        )

    def __len__(self) -> int:
        return self.shape[0]

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.asarray(self.pixels[indices])

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.zeros(len(indices), dtype=np.int64)


def shown(source: ImageSource, steps: int, batch_size: int) -> list[int]:
    batches = [to_uint8(source.batch(step, range(batch_size), batch_size).x0) for step in range(steps)]
    return [int(image.min()) // 10 for batch in batches for image in batch]


def test_every_epoch_has_every_image_once_and_batches_span_epochs() -> None:
    source = ImageSource(Numbered(7), ImageShape(3, 8, 8), seed=1)
    order = shown(source, steps=7, batch_size=3)
    for epoch in range(3):
        assert sorted(order[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert order[:7] != order[7:14]


def test_a_batch_depends_on_its_step_only() -> None:
    shape = ImageShape(3, 6, 6)
    source = ImageSource(Numbered(7), shape, seed=1, flip=True)
    forward = [source.batch(step, range(4), 4).x0 for step in range(5)]
    fresh = ImageSource(Numbered(7), shape, seed=1, flip=True)
    for step in reversed(range(5)):
        assert torch.equal(fresh.batch(step, range(4), 4).x0, forward[step])


def test_two_halves_of_a_batch_are_the_batch() -> None:
    source = ImageSource(Numbered(20), ImageShape(3, 6, 6), seed=3, flip=True)
    full = source.batch(2, range(8), 8).x0
    halves = [source.batch(2, range(4), 8).x0, source.batch(2, range(4, 8), 8).x0]
    assert torch.equal(full, torch.cat(halves))


def test_half_of_the_images_are_flipped_and_crops_reach_every_position() -> None:
    source = ImageSource(Numbered(1, width=10), ImageShape(3, 8, 8), seed=0, flip=True)
    rows = [to_uint8(source.batch(step, range(1), 1).x0)[0, 0, 0] for step in range(400)]
    flipped = [bool(row[0] > row[-1]) for row in rows]
    assert 160 < sum(flipped) < 240
    assert set(Counter(int(row.min()) for row in rows)) == {0, 1, 2}


def test_center_crops_are_never_flipped() -> None:
    source = ImageSource(Numbered(2, width=12), ImageShape(3, 8, 8), seed=0, flip=True)
    assert source.center_crops(np.array([1]))[0, 0, 0].tolist() == [10 + column for column in range(2, 10)]


def test_pixels_are_unchanged_by_conversion_to_floats_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    floats = to_float(pixels)
    assert (floats.min().item(), floats.max().item()) == (-1.0, 1.0)
    assert torch.equal(to_uint8(floats), pixels)
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_never_pixels(value: float) -> None:
    images = torch.zeros(5, 3, 4, 4)
    images[[1, 3], 0, 2, 2] = value
    with pytest.raises(RunFailed, match="2 of 5 images cannot be used: they contain NaN or infinity"):
        to_uint8(images)


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_seeds_of_any_size(seed: int) -> None:
    source = ImageSource(Numbered(3), ImageShape(3, 8, 8), seed=seed, flip=True)
    assert source.batch(10**9, range(2), 2).x0.shape == (2, 3, 8, 8)


@pytest.mark.parametrize(("length", "most"), [(0, 4), (3, 4), (4, 4), (8, 4), (10, 4), (1200, 512)])
def test_a_subset_has_one_index_in_each_equal_part(length: int, most: int) -> None:
    subset = evenly_spread(length, most)
    count = min(length, most)
    assert len(subset) == count
    assert all(part * length // count <= index < (part + 1) * length // count for part, index in enumerate(subset))
    assert subset.tolist() == evenly_spread(length, most).tolist()


@pytest.mark.parametrize(("classes", "length"), [(2, 1024), (3, 1536), (4, 4096)])
def test_alternating_classes_are_all_in_a_subset(classes: int, length: int) -> None:
    # At equal distances, every index would be of the first class.
    found = np.bincount(evenly_spread(length, 512) % classes, minlength=classes)
    assert found.min() > 0.7 * 512 / classes
