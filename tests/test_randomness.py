import math

import numpy as np
import pytest
import torch
from numpy.random import Generator, Philox

from ddpmkit.randomness import ImageNoise, Purpose, normal, permutation, stream, uniform_integers


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_a_stream_is_numpys_philox_at_a_named_place(seed: int) -> None:
    expected = Generator(Philox(key=[seed, 3], counter=[0, 5, 2**40, 0])).standard_normal(10)
    assert np.array_equal(stream(seed, Purpose.NOISE, 5, 2**40).standard_normal(10), expected)


def test_streams_of_other_names_have_nothing_to_do_with_each_other() -> None:
    names = [
        (s, p, step, i) for s in (0, 1) for p in (Purpose.NOISE, Purpose.SAMPLE) for step in (0, 1) for i in (0, 1)
    ]
    draws = np.stack([stream(seed, purpose, step, index).standard_normal(4000) for seed, purpose, step, index in names])
    correlation = np.corrcoef(draws) - np.eye(len(names))
    assert np.abs(correlation).max() < 5 / math.sqrt(4000)


def test_noise_is_standard_normal() -> None:
    draws = normal(0, Purpose.NOISE, 3, range(64), (3, 32, 32)).double().flatten()
    n = len(draws)
    assert abs(draws.mean()) < 4 / math.sqrt(n)
    assert abs(draws.var() - 1) < 4 * math.sqrt(2 / n)
    # Share within one standard deviation: 0.6827.
    assert abs((draws.abs() < 1).double().mean() - math.erf(1 / math.sqrt(2))) < 4 * math.sqrt(0.217 / n)
    assert normal(0, Purpose.NOISE, 3, range(2), (3, 4, 5)).dtype == torch.float32


def test_timesteps_are_uniform() -> None:
    draws = uniform_integers(0, Purpose.TIMESTEP, 0, range(20_000), 50)
    assert draws.dtype == torch.int64
    counts = torch.bincount(draws, minlength=50).double()
    # Chi-square with 49 degrees of freedom: mean 49, standard deviation 9.9.
    assert float(((counts - 400) ** 2 / 400).sum()) < 49 + 4 * 9.9


def test_a_draw_is_a_function_of_its_index_whatever_the_batch() -> None:
    whole = normal(7, Purpose.NOISE, 2, range(8), (3, 4, 4))
    for index in (0, 5):
        assert torch.equal(normal(7, Purpose.NOISE, 2, [index], (3, 4, 4))[0], whole[index])
    noise = ImageNoise(7, [3, 17, 4], (3, 4, 4), torch.device("cpu"))
    alone = ImageNoise(7, [17], (3, 4, 4), torch.device("cpu"))
    for draw in (0, 1, 9):
        assert torch.equal(noise(draw)[1], alone(draw)[0])
    assert not torch.equal(noise(0), noise(1))


def test_every_epoch_has_an_order_of_its_own() -> None:
    orders = [permutation(0, epoch, 100).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert orders[1] == permutation(0, 1, 100).tolist()
