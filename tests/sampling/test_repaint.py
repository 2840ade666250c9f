from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ddpmkit.contracts import Sampler
from ddpmkit.diffusion import Denoiser
from ddpmkit.errors import InputError
from ddpmkit.randomness import ImageNoise
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.sampling.repaint import RePaint

Make = Callable[..., ImageGenerator]


class Counted:
    """Noise that counts how often each draw is used."""

    def __init__(self) -> None:
        self.draws: Counter[int] = Counter()
        self.noise = ImageNoise(0, range(2), (3, 8, 10), torch.device("cpu"))

    def __call__(self, draw: int) -> Tensor:
        self.draws[draw] += 1
        return self.noise(draw)


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("steps", [1, 7, 25, 200])
def test_it_announces_its_network_calls_and_yields_the_frames_of_one_pass(
    generator: Make, sampler: Sampler, passes: int, steps: int, gaussian: Callable[..., nn.Module]
) -> None:
    network, repaint = gaussian(own=0.02), RePaint(sampler, passes)
    process = generator().process
    frames = list(repaint.sample(Denoiser(network, process), Counted(), steps))
    assert network.calls == repaint.network_calls(steps)
    times = [frame.t for frame in frames]
    assert (len(frames), times[0], times[-1]) == (steps + 1, 200, 0)
    assert times == sorted(set(times), reverse=True)
    assert torch.equal(frames[-1].x, frames[-1].x0_hat)


def test_no_noise_is_used_twice(generator: Make, sampler: Sampler, gaussian: Callable[..., nn.Module]) -> None:
    noise = Counted()
    list(RePaint(sampler, 3).sample(Denoiser(gaussian(own=0.02), generator().process), noise, 40))
    assert set(noise.draws.values()) == {1}
    # Ten segments are repeated twice, and the ancestral sampler uses further draws.
    assert len(noise.draws) >= 21


def test_its_samples_have_the_distribution_of_the_sampler(generator: Make, sampler: Sampler) -> None:
    images = generator(RePaint(sampler, 3)).images(range(32), 0).float() / 127.5 - 1
    assert images.mean().item() == pytest.approx(0.2, abs=0.01)
    assert images.std().item() == pytest.approx(0.15, rel=0.1)


@pytest.mark.parametrize("steps", [0, 201])
def test_an_invalid_number_of_steps_is_rejected(generator: Make, sampler: Sampler, steps: int) -> None:
    made = generator()
    with pytest.raises(InputError):
        list(RePaint(sampler, 2).sample(Denoiser(made.network, made.process), Counted(), steps))
