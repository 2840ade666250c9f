"""Kernel distance, precision and recall against clean-fid, brute force and sets with known results."""

import itertools

import cleanfid.fid
import numpy as np
import pytest
import torch

from ddpmkit.plugin import InputError
from ddpmkit_plugins.clean_fid.kernel import CleanKid, squared_discrepancy
from ddpmkit_plugins.clean_fid.precision_recall import PrecisionRecall, covered


def vectors(count: int, seed: int, shift: float = 0.0, features: int = 16) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn((count, features), generator=draw, dtype=torch.float64) + shift


def test_on_one_subset_the_kernel_distance_equals_clean_fid() -> None:
    x, y = vectors(50, 0), vectors(50, 1, shift=0.3)
    # Asked for one subset as large as the sets, it draws all of them.
    expected = cleanfid.fid.kernel_distance(x.numpy(), y.numpy(), num_subsets=1, max_subset_size=50)
    assert squared_discrepancy(x, y) == pytest.approx(expected, rel=1e-9)


def test_with_sets_of_different_sizes_it_is_the_mean_over_all_pairs() -> None:
    x, y = vectors(7, 0), vectors(5, 1, shift=0.5)

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return (float(a @ b) / 16 + 1) ** 3

    within = [
        np.mean([kernel(a, b) for a, b in itertools.permutations(side, 2)])  # of different images only: no bias
        for side in (x, y)
    ]
    expected = sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y])
    assert squared_discrepancy(x, y) == pytest.approx(expected, rel=1e-12)


def test_without_a_difference_its_mean_is_zero_at_any_size() -> None:
    found = [squared_discrepancy(vectors(20, 2 * seed), vectors(20, 2 * seed + 1)) for seed in range(200)]
    assert min(found) < 0 < max(found)
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = vectors(30, 0), vectors(40, 1, shift=0.2)
    kid, share = squared_discrepancy(x, y), covered(x, y, 3)
    for module in ("kernel", "precision_recall"):
        monkeypatch.setattr(f"ddpmkit_plugins.clean_fid.{module}._ROWS", 7)
    assert squared_discrepancy(x, y) == pytest.approx(kid, rel=1e-12)
    assert covered(x, y, 3) == share


def test_a_manifold_covers_the_points_in_its_balls() -> None:
    # On a line: neighbours at distance 1, but for the last, whose nearest is 5 away.
    manifold = torch.tensor([[0.0], [1.0], [2.0], [7.0]]).double()
    points = torch.tensor([[-0.9], [-1.1], [2.5], [3.5], [12.0], [12.1]]).double()
    inside = [True, False, True, True, True, False]
    for point, expected in zip(points, inside, strict=True):
        assert covered(point[None], manifold, 1) == expected
    assert covered(points, manifold, 1) == pytest.approx(4 / 6)


@pytest.mark.parametrize("neighbours", [1, 3])
def test_precision_equals_brute_force(neighbours: int) -> None:
    real, generated = vectors(40, 0, features=3).numpy(), vectors(30, 1, shift=1.0, features=3).numpy()
    radii = [sorted(np.linalg.norm(real - image, axis=1))[neighbours] for image in real]
    expected = np.mean([any(np.linalg.norm(real - image, axis=1) <= radii) for image in generated])
    assert 0 < expected < 1
    assert covered(torch.from_numpy(generated), torch.from_numpy(real), neighbours) == expected


def stored(metric: type, **attributes: object) -> CleanKid | PrecisionRecall:
    """Built without a network: the tests pass features."""
    made = metric.__new__(metric)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def test_lost_modes_cost_recall_and_noise_costs_precision() -> None:
    metric = stored(PrecisionRecall, neighbours=3)
    real = torch.cat([vectors(60, 0), vectors(60, 1, shift=9.0)])
    one_mode, all_and_noise = vectors(60, 2), torch.cat([vectors(60, 3), vectors(60, 4, shift=9.0), vectors(60, 5) * 9])
    lost = metric.scores({"features": real}, {"features": one_mode})
    noisy = metric.scores({"features": real}, {"features": all_and_noise})
    assert lost["precision"] > 0.7
    assert lost["recall"] < 0.6
    assert noisy["precision"] < 0.7
    assert noisy["recall"] > 0.7


def test_a_set_covers_itself() -> None:
    same = {"features": vectors(50, 0)}
    assert stored(PrecisionRecall, neighbours=3).scores(same, same) == {"precision": 1.0, "recall": 1.0}


def test_too_few_images_are_named() -> None:
    one, three = {"features": vectors(1, 0)}, {"features": vectors(3, 0)}
    with pytest.raises(InputError, match="at least 2 real and 2 generated images; it received 3 real and 1 generated"):
        stored(CleanKid).scores(three, one)
    with pytest.raises(InputError, match="more than 3 images, real and generated; it received 3"):
        stored(PrecisionRecall, neighbours=3).scores(three, three)
