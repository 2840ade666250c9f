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
from ddpmkit.sampling.repaint import Resampled

Make = Callable[..., ImageGenerator]


class Counted:
    """Noise that remembers what was drawn."""

    def __init__(self) -> None:
        self.draws: Counter[int] = Counter()
        self.noise = ImageNoise(0, range(2), (3, 8, 10), torch.device("cpu"))

    def __call__(self, draw: int) -> Tensor:
        self.draws[draw] += 1
        return self.noise(draw)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("steps", [1, 7, 25, 200])
def test_it_announces_its_calls_and_shows_one_way_down(
    generator: Make, sampler: Sampler, times: int, steps: int, gaussian: Callable[..., nn.Module]
) -> None:
    network, resampled = gaussian(own=0.02), Resampled(sampler, times)
    process = generator().process
    frames = list(resampled.sample(Denoiser(network, process), Counted(), steps))
    assert network.calls == resampled.network_calls(steps)
    times_shown = [frame.t for frame in frames]
    assert (len(frames), times_shown[0], times_shown[-1]) == (steps + 1, 200, 0)
    assert times_shown == sorted(set(times_shown), reverse=True)
    assert torch.equal(frames[-1].x, frames[-1].x0_hat)


def test_no_noise_is_used_twice(generator: Make, sampler: Sampler, gaussian: Callable[..., nn.Module]) -> None:
    noise = Counted()
    list(Resampled(sampler, 3).sample(Denoiser(gaussian(own=0.02), generator().process), noise, 40))
    assert set(noise.draws.values()) == {1}
    # Ten stretches are gone back to twice, and the ancestral sampler draws besides.
    assert len(noise.draws) >= 21


def test_it_draws_what_its_sampler_draws(generator: Make, sampler: Sampler) -> None:
    images = generator(Resampled(sampler, 3)).images(range(32), 0).float() / 127.5 - 1
    assert images.mean().item() == pytest.approx(0.2, abs=0.01)
    assert images.std().item() == pytest.approx(0.15, rel=0.1)


@pytest.mark.parametrize("steps", [0, 201])
def test_a_number_of_steps_that_is_none_is_refused(generator: Make, sampler: Sampler, steps: int) -> None:
    made = generator()
    with pytest.raises(InputError):
        list(Resampled(sampler, 2).sample(Denoiser(made.network, made.process), Counted(), steps))
