"""The random numbers of a device are those of the CPU."""

import pytest
import torch

from ddpmkit.randomness import ImageNoise, Purpose, integers, normal, uniform, words

pytestmark = pytest.mark.gpu


def test_integers_and_uniform_numbers_equal_those_of_the_cpu(device: torch.device) -> None:
    indices = torch.arange(2**40 - 1000, 2**40)
    for step in (0, 2**48 - 1):
        on_device = torch.tensor(step, device=device)
        expected = words(2**63 - 1, Purpose.AUGMENT, step, indices, 7)
        assert torch.equal(words(2**63 - 1, Purpose.AUGMENT, on_device, indices.to(device), 7).cpu(), expected)
        assert expected.unique().numel() > 6900  # not a constant
        for draw in (uniform, lambda *key: integers(*key, 1000)):
            found = draw(5, Purpose.TIMESTEP, step, indices.to(device))
            assert found.device.type == device.type
            assert torch.equal(found.cpu(), draw(5, Purpose.TIMESTEP, step, indices))


def test_normal_numbers_equal_those_of_the_cpu_but_for_the_last_bit_of_a_few(device: torch.device) -> None:
    indices = torch.arange(1024)
    expected = normal(3, Purpose.NOISE, 11, indices, (3, 32, 32))
    found = normal(3, Purpose.NOISE, torch.tensor(11, device=device), indices.to(device), (3, 32, 32)).cpu()
    assert found.dtype == torch.float32
    # Numbers that are next to each other in float32 differ by 1 as integers.
    difference = (found.view(torch.int32).long() - expected.view(torch.int32).long()).abs()
    assert difference.max() <= 1
    assert difference.count_nonzero() <= 3  # of three million


def test_noise_of_an_image_is_on_the_device_and_independent_of_its_batch(device: torch.device) -> None:
    together = ImageNoise(1, range(8), (3, 8, 8), device)(2)
    assert together.device.type == device.type
    for index in (0, 7):
        assert torch.equal(ImageNoise(1, [index], (3, 8, 8), device)(2)[0], together[index])
