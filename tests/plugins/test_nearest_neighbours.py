"""The distance from samples to training images, and the share of copies."""

import numpy as np
import pytest
import torch

from ddpmkit.plugin import InputError
from ddpmkit_plugins.nearest_neighbours import NearestNeighboursConfig
from ddpmkit_plugins.nearest_neighbours.metric import NearestNeighbours

CPU = torch.device("cpu")


def metric(**keys: object) -> NearestNeighbours:
    return NearestNeighbours(NearestNeighboursConfig(**keys), device=CPU)  # type: ignore[arg-type]


def scores(real: torch.Tensor, generated: torch.Tensor, **keys: object) -> dict[str, float]:
    made = metric(**keys)
    return made.scores(made.measure_real(real), made.measure_generated(generated))


def random_images(count: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 8, 8), generator=draw, dtype=torch.uint8)


@pytest.mark.parametrize("count", [14, 15])
@pytest.mark.parametrize("mirrored", [True, False])
def test_the_distance_equals_brute_force(count: int, mirrored: bool) -> None:
    real, generated = random_images(20, 0), random_images(count, 1)
    x, y = (images.double().numpy() for images in (real, generated))
    sides = [*x, *x[..., ::-1]] if mirrored else x
    nearest = [min(np.sqrt(((image - other) ** 2).mean()) for other in sides) for image in y]
    found = scores(real, generated, mirrored=mirrored)
    assert found["distance"] == pytest.approx(np.median(nearest), rel=1e-9)
    assert found["copies"] == 0


def test_a_distance_is_in_grey_levels() -> None:
    grey = torch.full((3, 1, 8, 8), 100, dtype=torch.uint8)
    assert scores(torch.cat([grey, grey + 50]), grey + 7)["distance"] == pytest.approx(7)


def test_copies_of_duplicated_training_images_are_copies() -> None:
    x = random_images(12, 0)
    assert scores(torch.cat([x, x]), x)["copies"] == 1
    assert scores(torch.cat([x, x, random_images(12, 1)]), torch.cat([x, random_images(12, 2)]))["copies"] == 0.5


def test_copies_of_near_duplicates_are_copies() -> None:
    """Like a JPEG copy of the image: each pixel changes by up to 3 grey levels, 2 in the root mean square."""
    x = random_images(12, 0) // 2 + 40
    draw = torch.Generator().manual_seed(3)
    again = (x.int() + torch.randint(-3, 4, x.shape, generator=draw)).to(torch.uint8)
    assert scores(torch.cat([x, again]), x)["copies"] == 1
    assert scores(torch.cat([x, again.flip(3)]), x)["copies"] == 1


def test_a_mirror_image_is_a_copy_if_training_flips() -> None:
    x = random_images(12, 0)
    assert scores(x, x.flip(3))["copies"] == 1
    assert scores(x, x.flip(3))["distance"] == pytest.approx(0, abs=1e-3)
    assert scores(x, x.flip(3), mirrored=False)["copies"] == 0
    # The mirror image does not count as another image: an almost symmetric image does not hide its copies.
    symmetric = torch.cat([x, x.flip(3)], dim=3)
    symmetric[:, :, :, 0] //= 2
    assert scores(symmetric, symmetric)["copies"] == 1


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    levels = torch.tensor([0, 200], dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    generated = torch.tensor([1, 3, 9, 60], dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    assert scores(levels, generated)["distance"] == pytest.approx(6)


def test_a_copy_is_nearer_than_images_are_to_one_another() -> None:
    levels = torch.tensor([0, 40, 80, 200], dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    # Spacings 40, 40, 40 and 120: 0.4 of them is 16, 16, 16 and 48.
    for level, copied in ((0, True), (15, True), (18, False), (101, False), (145, False), (155, True), (199, True)):
        one = torch.full((1, 1, 8, 8), level, dtype=torch.uint8)
        assert scores(levels, one, copy_ratio=0.4)["copies"] == copied
    assert scores(levels, levels + 15, copy_ratio=0.3)["copies"] == 0.25


def test_memorization_is_detected() -> None:
    real, new = random_images(30, 0), random_images(10, 1)
    assert scores(real, torch.cat([real[:20], new]))["copies"] == pytest.approx(2 / 3)


def test_larger_images_are_averaged_over_pixels() -> None:
    fine = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).repeat(1, 1, 1, 1)
    state = metric(size=4).measure_real(fine)["pixels"]
    assert state.dtype == torch.float64
    assert state.shape == (1, 1, 4, 4)
    assert float(state[0, 0, 0, 0]) == (0 + 1 + 8 + 9) / 4


@pytest.mark.parametrize("copies", [1, 3])
def test_one_training_image_is_an_error(copies: int) -> None:
    with pytest.raises(InputError, match="at least 2 different training images"):
        scores(random_images(1, 0).repeat(copies, 1, 1, 1), random_images(3, 1))
