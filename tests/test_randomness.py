import itertools
import math

import pytest
import torch
from torch import Tensor

from ddpmkit.randomness import (
    ImageNoise,
    Purpose,
    _normal,
    as_integers,
    integer,
    integers,
    normal,
    permutation,
    philox,
    uniform,
    words,
)

LARGEST = 2**63 - 1
ONES = 2**32 - 1


def kolmogorov_smirnov(probabilities: Tensor) -> float:
    """Return sqrt(n) D of numbers that should be uniform in 0 .. 1. It exceeds 1.95 with probability 0.001."""
    n = len(probabilities)
    distance = (probabilities.double().sort().values - (torch.arange(n) + 0.5) / n).abs().max() + 0.5 / n
    return float(math.sqrt(n) * distance)


def chi_squared_excess(counts: Tensor) -> float:
    """Return how many standard deviations the chi-squared statistic of equally likely values is above its mean."""
    expected = counts.sum() / len(counts)
    degrees = len(counts) - 1
    return float(((counts - expected) ** 2 / expected).sum() - degrees) / math.sqrt(2 * degrees)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([ONES] * 4, (ONES, ONES), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(counter: list[int], key: tuple[int, int], expected: list[int]) -> None:
    """The three philox4x32-10 lines of `kat_vectors`, published with Random123: for integers and for tensors."""
    assert list(philox(counter, key)) == expected
    of_tensors = philox([torch.tensor([word]) for word in counter], key)
    assert [int(word) for word in of_tensors] == expected


@pytest.mark.parametrize("seed", [0, 2**32 + 5, LARGEST])
@pytest.mark.parametrize(("step", "index"), [(0, 0), (7, 2**32 + 3), (2**48 - 1, 2**40 - 1)])
def test_words_are_those_of_philox_at_key_and_counter(seed: int, step: int, index: int) -> None:
    """All bits of seed, purpose, step and index reach the generator."""
    last = Purpose.NOISE << 24 | (step >> 32) << 8 | index >> 32
    expected = [
        word for block in (0, 1) for word in philox([block, index & ONES, step & ONES, last], (seed & ONES, seed >> 32))
    ]
    assert words(seed, Purpose.NOISE, step, torch.tensor([index]), 8)[0].tolist() == expected
    assert words(seed, Purpose.NOISE, torch.tensor(step), torch.tensor([index]), 7)[0].tolist() == expected[:7]
    assert integer(seed, Purpose.NOISE, step, index) == expected[0] << 31 | expected[1] >> 1


@pytest.mark.parametrize(
    ("seed", "step", "message"),
    [(-1, 0, "seed"), (2**63, 0, "seed"), (0, -1, "step"), (0, 2**48, r"step must be in 0 .. 2\*\*48 - 1")],
)
def test_seeds_and_steps_outside_their_range_are_rejected(seed: int, step: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        words(seed, Purpose.NOISE, step, torch.arange(2))
    with pytest.raises(ValueError, match=message):
        integer(seed, Purpose.NOISE, step)


def test_the_values_of_purposes_are_stable() -> None:
    names = ["ORDER", "TIMESTEP", "NOISE", "AUGMENT", "INIT", "VALIDATION", "SAMPLE", "SPLIT"]
    names += ["OFFSET", "LABEL_DROPOUT", "NETWORK", "SELF_CONDITIONING", "SUBSET"]
    assert {purpose.name: purpose.value for purpose in Purpose} == {name: n for n, name in enumerate(names, start=1)}


def test_numbers_with_other_seeds_purposes_steps_or_indices_are_uncorrelated() -> None:
    keys = itertools.product((0, 1, 2**32), Purpose, (0, 1, 2**32), torch.tensor([[0], [1], [2**32]]))
    draws = torch.cat([normal(seed, purpose, step, index, (4000,)) for seed, purpose, step, index in keys])
    correlation = torch.corrcoef(draws) - torch.eye(len(draws))
    # About sixty thousand pairs, each within 1 / sqrt(4000) of 0.
    assert correlation.abs().max() < 5.5 / math.sqrt(4000)


def test_noise_is_standard_normal() -> None:
    noise = normal(0, Purpose.NOISE, 3, torch.arange(64), (3, 32, 32))
    assert noise.dtype == torch.float32
    assert noise.shape == (64, 3, 32, 32)
    draws = noise.double().flatten()
    n = len(draws)
    assert abs(draws.mean()) < 4 / math.sqrt(n)
    assert abs(draws.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs(draws.pow(3).mean()) < 4 * math.sqrt(15 / n)
    assert abs(draws.pow(4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert kolmogorov_smirnov(torch.special.ndtr(draws)) < 1.95


def test_neighbouring_pixels_are_uncorrelated() -> None:
    """Box-Muller makes two numbers from the same two words."""
    draws = normal(1, Purpose.NOISE, 0, torch.arange(256), (4096,)).double()
    for distance in (1, 2, 1024, 2048, 3072):
        product = draws[:, :-distance] * draws[:, distance:]
        assert abs(product.mean()) < 4 / math.sqrt(product.numel())
        squares = (draws[:, :-distance] ** 2 - 1) * (draws[:, distance:] ** 2 - 1)
        assert abs(squares.mean()) < 4 * 2 / math.sqrt(squares.numel())


def test_normal_numbers_are_those_of_box_and_muller() -> None:
    """The formula of Box & Muller (1958) in Python's own float64."""
    found = normal(5, Purpose.SAMPLE, 9, torch.tensor([3]), (8,))[0].tolist()
    w = words(5, Purpose.SAMPLE, 9, torch.tensor([3]), 8)[0].tolist()
    for block in (0, 1):
        for first in (0, 2):
            radius = math.sqrt(-2 * math.log((w[4 * block + first] + 1) / 2**32))
            angle = 2 * math.pi * w[4 * block + first + 1] / 2**32
            pair = found[2 * first + block], found[2 * (first + 1) + block]
            # Each word makes one plane of numbers: first all cosines of the first words, then their sines, and so on.
            assert pair == pytest.approx((radius * math.cos(angle), radius * math.sin(angle)), rel=1e-6)


def test_normal_numbers_of_the_extreme_words_are_finite() -> None:
    """The logarithm of a uniform number in (0, 1] is finite, and the largest radius is sqrt(64 log 2)."""
    extremes = torch.tensor([[0, ONES]])
    found = _normal((extremes, extremes, extremes.flip(1), extremes))
    assert found.isfinite().all()
    assert found.abs().max() == pytest.approx(math.sqrt(64 * math.log(2)))


@pytest.mark.parametrize("high", [7, 50, 1000])
def test_timesteps_are_uniform(high: int) -> None:
    draws = integers(0, Purpose.TIMESTEP, 0, torch.arange(20_000), high)
    assert draws.dtype == torch.int64
    counts = torch.bincount(draws, minlength=high).double()
    assert len(counts) == high
    assert abs(chi_squared_excess(counts)) < 4


def test_the_smallest_and_largest_words_are_the_first_and_last_integers() -> None:
    assert as_integers(torch.tensor([0, ONES]), 50).tolist() == [0, 49]
    assert as_integers(torch.tensor([0, ONES]), torch.tensor([1, 2**31])).tolist() == [0, 2**31 - 1]


def test_uniform_numbers_are_uniform_and_less_than_one() -> None:
    draws = uniform(0, Purpose.LABEL_DROPOUT, 0, torch.arange(20_000))
    assert draws.dtype == torch.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    assert kolmogorov_smirnov(draws) < 1.95


@pytest.mark.parametrize("bit", range(32))
def test_each_bit_is_one_in_half_of_the_words(bit: int) -> None:
    bits = words(3, Purpose.NOISE, 1, torch.arange(5000), 4).flatten() >> bit & 1
    assert abs(bits.double().mean() - 0.5) < 4 * 0.5 / math.sqrt(len(bits))


def test_no_indices_give_no_numbers() -> None:
    nothing = torch.arange(0)
    assert integers(0, Purpose.TIMESTEP, 0, nothing, 50).dtype == torch.int64
    assert normal(0, Purpose.NOISE, 0, nothing, (3, 4, 4)).shape == (0, 3, 4, 4)


def test_random_numbers_depend_on_the_index_not_on_the_batch() -> None:
    """Also if the batch is so large that it is computed in parts."""
    batch = normal(7, Purpose.NOISE, 2, torch.arange(100), (3, 32, 32))
    times = integers(7, Purpose.TIMESTEP, 2, torch.arange(100), 1000)
    for index in (0, 5, 99):
        alone = torch.tensor([index])
        assert torch.equal(normal(7, Purpose.NOISE, 2, alone, (3, 32, 32))[0], batch[index])
        assert integers(7, Purpose.TIMESTEP, 2, alone, 1000)[0] == times[index]


def test_the_step_may_be_a_tensor() -> None:
    indices = torch.arange(4)
    for step in (0, 5, 2**32 + 1):
        expected = normal(7, Purpose.NOISE, step, indices, (5,))
        assert torch.equal(normal(7, Purpose.NOISE, torch.tensor(step), indices, (5,)), expected)


def test_random_numbers_compile_to_one_graph() -> None:
    def numbers(step: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        timesteps = integers(LARGEST, Purpose.TIMESTEP, step, indices, 50)
        return normal(LARGEST, Purpose.NOISE, step, indices, (3, 8, 8)), timesteps

    step, indices = torch.tensor(2**32 + 7), torch.arange(8)
    compiled = torch.compile(numbers, fullgraph=True, backend="eager")
    for found, expected in zip(compiled(step, indices), numbers(step, indices), strict=True):
        assert torch.equal(found, expected)


def test_image_17_has_the_same_noise_in_every_batch() -> None:
    def noise(*indices: int, seed: int = 7) -> ImageNoise:
        return ImageNoise(seed, indices, (3, 4, 4), torch.device("cpu"))

    for draw in (0, 1, 9, 2**32):
        assert torch.equal(noise(3, 17, 4)(draw)[1], noise(17)(draw)[0])
    alone = noise(17)
    assert not torch.equal(alone(0), alone(1))
    assert not torch.equal(alone(0), noise(18)(0))
    assert not torch.equal(alone(0), noise(17, seed=8)(0))
    # Draw 17 of image 3 differs from draw 3 of image 17.
    assert not torch.equal(noise(3)(17), alone(3))


def order(seed: int, epoch: int, length: int) -> tuple[int, ...]:
    return tuple(permutation(seed, Purpose.ORDER, epoch, length).tolist())


def test_every_epoch_has_another_order() -> None:
    orders = [order(seed, epoch, 100) for seed in (0, LARGEST) for epoch in (0, 1, 2**32, 2**32 + 1)]
    assert all(sorted(each) == list(range(100)) for each in orders)
    assert len(set(orders)) == len(orders)
    assert order(0, 1, 100) == orders[1]


def test_every_image_is_equally_likely_at_every_place() -> None:
    orders = torch.tensor([order(0, epoch, 10) for epoch in range(2000)])
    for place in range(10):
        assert abs(chi_squared_excess(torch.bincount(orders[:, place], minlength=10).double())) < 4
