import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddpmkit.randomness import ImageNoise, Purpose, normal, permutation, stream, uniform_integers

LARGEST = 2**63 - 1


def philox4x64(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds of Philox4x64 on Python's integers: Salmon et al. (2011), "Parallel Random Numbers"."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * a, 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * c, 2**64)
        a, b, c, d = high1 ^ b ^ k0, low1, high0 ^ d ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) % 2**64, (k1 + 0xBB67AE8584CAA73B) % 2**64
    return [a, b, c, d]


def raw(seed: int, purpose: Purpose, *counters: int) -> list[int]:
    found: NDArray[np.uint64] = stream(seed, purpose, *counters).bit_generator.random_raw(8)
    return [int(word) for word in found]


def test_the_reference_philox_gives_the_published_answers() -> None:
    """The first two philox4x64-10 lines of `kat_vectors`, published with Random123."""
    of_zeros = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    of_ones = [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0]
    assert philox4x64([0] * 4, [0] * 2) == of_zeros
    assert philox4x64([2**64 - 1] * 4, [2**64 - 1] * 2) == of_ones


@pytest.mark.parametrize(
    ("seed", "counters"),
    [(0, ()), (1, (5,)), (LARGEST, (5, 2**40)), (LARGEST - 1, (2**32 + 1, 7, 9)), (2**53 + 1, (LARGEST,) * 3)],
)
def test_a_stream_is_philox_at_its_key_and_counters(seed: int, counters: tuple[int, ...]) -> None:
    first, second, third = (*counters, 0, 0, 0)[:3]
    # numpy increments the counter before each block of four words, so the first block has word 0 = 1.
    blocks = [philox4x64([block, first, second, third], [seed, 3]) for block in (1, 2)]
    assert raw(seed, Purpose.NOISE, *counters) == blocks[0] + blocks[1]


def test_more_than_three_counters_are_rejected() -> None:
    with pytest.raises(ValueError, match="counter"):
        stream(0, Purpose.NOISE, 1, 2, 3, 4)


def test_the_values_of_purposes_are_stable() -> None:
    names = ["ORDER", "TIMESTEP", "NOISE", "AUGMENT", "INIT", "VALIDATION", "SAMPLE", "SPLIT"]
    names += ["OFFSET", "LABEL_DROPOUT", "NETWORK", "SELF_CONDITIONING", "SUBSET"]
    assert {purpose.name: purpose.value for purpose in Purpose} == {name: n for n, name in enumerate(names, start=1)}


def test_streams_with_different_keys_or_counters_are_uncorrelated() -> None:
    keys = [(s, p, step, i) for s in (0, 1) for p in Purpose for step in (0, 1) for i in (0, 1)]
    draws = np.stack([stream(seed, purpose, step, index).standard_normal(4000) for seed, purpose, step, index in keys])
    correlation = np.corrcoef(draws) - np.eye(len(keys))
    # About two thousand pairs, each within 1 / sqrt(4000) of 0.
    assert np.abs(correlation).max() < 5 / math.sqrt(4000)


def test_noise_is_standard_normal() -> None:
    noise = normal(0, Purpose.NOISE, 3, range(64), (3, 32, 32))
    assert noise.dtype == torch.float32
    assert noise.shape == (64, 3, 32, 32)
    draws = noise.double().flatten()
    n = len(draws)
    assert abs(draws.mean()) < 4 / math.sqrt(n)
    assert abs(draws.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs(draws.pow(4).mean() - 3) < 4 * math.sqrt(96 / n)
    # Kolmogorov-Smirnov: sqrt(n) D exceeds 1.95 with probability 0.001.
    probability = torch.special.ndtr(draws.sort().values)
    distance = (probability - (torch.arange(n) + 0.5) / n).abs().max() + 0.5 / n
    assert math.sqrt(n) * distance < 1.95


@pytest.mark.parametrize("high", [7, 50, 1000])
def test_timesteps_are_uniform(high: int) -> None:
    count = 20_000
    draws = uniform_integers(0, Purpose.TIMESTEP, 0, range(count), high)
    counts = torch.bincount(draws, minlength=high).double()
    assert len(counts) == high
    # Chi-square with high - 1 degrees of freedom.
    assert abs(((counts - count / high) ** 2 / (count / high)).sum() - (high - 1)) < 4 * math.sqrt(2 * (high - 1))


def test_timesteps_are_int64_even_if_there_are_none() -> None:
    assert uniform_integers(0, Purpose.TIMESTEP, 0, range(3), 50).dtype == torch.int64
    assert uniform_integers(0, Purpose.TIMESTEP, 0, [], 50).dtype == torch.int64


def test_random_numbers_depend_on_the_index_not_on_the_batch() -> None:
    batch = normal(7, Purpose.NOISE, 2, range(8), (3, 4, 4))
    times = uniform_integers(7, Purpose.TIMESTEP, 2, range(8), 1000)
    for index in (0, 5):
        assert torch.equal(normal(7, Purpose.NOISE, 2, [index], (3, 4, 4))[0], batch[index])
        assert uniform_integers(7, Purpose.TIMESTEP, 2, [index], 1000)[0] == times[index]
    assert batch[5, 0, 0, 0].item() == stream(7, Purpose.NOISE, 2, 5).standard_normal(dtype=np.float32)
    assert times[5] == stream(7, Purpose.TIMESTEP, 2, 5).integers(1000)


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


def test_every_epoch_has_another_order() -> None:
    orders = [tuple(permutation(seed, epoch, 100)) for seed in (0, LARGEST) for epoch in (0, 1, 2**32, 2**32 + 1)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len(set(orders)) == len(orders)
    assert tuple(permutation(0, 1, 100)) == orders[1]


def test_every_image_is_equally_likely_to_come_first() -> None:
    firsts = np.bincount([permutation(0, epoch, 10)[0] for epoch in range(2000)], minlength=10)
    # Chi-square with 9 degrees of freedom.
    assert ((firsts - 200) ** 2 / 200).sum() < 9 + 4 * math.sqrt(18)
