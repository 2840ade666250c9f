"""Samples beside their nearest training images."""

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


def pictures(count: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 8, 8), generator=draw, dtype=torch.uint8)


def test_the_distance_is_brute_force() -> None:
    real, generated = pictures(20, 0), pictures(15, 1)
    x, y = (images.double().flatten(1).numpy() for images in (real, generated))
    nearest = [min(np.sqrt(((image - other) ** 2).mean()) for other in x) for image in y]
    found = scores(real, generated)
    assert found["distance"] == pytest.approx(sorted(nearest)[len(nearest) // 2], rel=1e-9)
    assert found["copies"] == 0


def test_a_distance_is_in_grey_levels() -> None:
    grey = torch.full((3, 1, 8, 8), 100, dtype=torch.uint8)
    assert scores(grey, grey + 7)["distance"] == pytest.approx(7)


def test_a_copy_is_nearer_than_images_are_to_one_another() -> None:
    levels = torch.tensor([0, 40, 80, 200], dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    # Spacings 40, 40, 40 and 120: 0.4 of them is 16, 16, 16 and 48.
    for level, copied in ((0, True), (15, True), (18, False), (101, False), (145, False), (155, True), (199, True)):
        one = torch.full((1, 1, 8, 8), level, dtype=torch.uint8)
        assert scores(levels, one, copy_ratio=0.4)["copies"] == copied
    assert scores(levels, levels + 15, copy_ratio=0.3)["copies"] == 0.25


def test_a_model_that_learned_by_heart_is_seen() -> None:
    real, new = pictures(30, 0), pictures(10, 1)
    assert scores(real, torch.cat([real[:20], new]))["copies"] == pytest.approx(2 / 3)


def test_larger_images_are_averaged_over_pixels() -> None:
    fine = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).repeat(1, 1, 1, 1)
    state = metric(size=4).measure_real(fine)["pixels"]
    assert state.dtype == torch.float64
    assert state.shape == (1, 16)
    assert float(state[0, 0]) == (0 + 1 + 8 + 9) / 4


def test_one_training_image_is_no_neighbourhood() -> None:
    with pytest.raises(InputError, match="at least 2 training images"):
        scores(pictures(1, 0), pictures(3, 1))
