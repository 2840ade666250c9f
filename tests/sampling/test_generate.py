from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape, NoiseSource, SamplerState
from ddpmkit.diffusion import Denoiser, GaussianDiffusion
from ddpmkit.errors import ContractError
from ddpmkit.runtime import Runtime, seeded_build
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit_plugins.ancestral import AncestralConfig
from ddpmkit_plugins.ancestral.sampler import AncestralSampler
from ddpmkit_plugins.attention_unet import AttentionUnetConfig
from ddpmkit_plugins.attention_unet.unet import AttentionUnet
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule


class Shrink(nn.Module):
    """A prediction for each image alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.9))
        self.modes: list[bool] = []

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        self.modes.append(self.training)
        return self.weight * x + 0.001 * t[:, None, None, None]


def generator(batch_size: int, steps: int = 10, network: nn.Module | None = None) -> ImageGenerator:
    process = GaussianDiffusion.from_schedule(CosineSchedule(CosineConfig(), timesteps=10))
    return ImageGenerator(
        network=network or Shrink(),
        process=process,
        sampler=AncestralSampler(AncestralConfig()),
        image_shape=ImageShape(3, 8, 10),
        steps=steps,
        batch_size=batch_size,
        runtime=Runtime(torch.device("cpu"), torch.float32),
    )


def test_an_image_is_the_same_for_every_batch_size() -> None:
    """Bit for bit, because this network computes each value alone."""
    expected = generator(batch_size=20).images(range(20), seed=5)
    assert expected.shape == (20, 3, 8, 10)
    assert expected.dtype == torch.uint8
    for batch_size in (1, 7, 64):
        assert torch.equal(generator(batch_size).images(range(20), seed=5), expected)
    assert torch.equal(generator(3).images(range(17, 18), seed=5)[0], expected[17])


@pytest.fixture
def unet() -> nn.Module:
    """A network whose convolutions round differently in batches of different sizes."""
    with seeded_build(0):
        network = AttentionUnet(
            AttentionUnetConfig(dim=16, multipliers=(1, 2), linear_attention_levels=(1,)),
            image_shape=ImageShape(3, 8, 10),
            num_classes=0,
            out_channels=3,
        )
        nn.init.normal_(network.out.weight, std=0.05)
    return network


def test_another_batch_size_changes_pixels_by_one_grey_level_at_most(unet: nn.Module) -> None:
    expected = generator(32, network=unet).images(range(32), seed=5).int()
    assert expected.float().std() > 10
    for batch_size in (1, 7, 20):
        found = generator(batch_size, network=unet).images(range(32), seed=5).int()
        moved = (found - expected).abs()
        assert moved.max() <= 1
        assert (moved > 0).float().mean() < 0.01


def test_with_the_same_batch_size_an_image_is_the_same_bit_for_bit(unet: nn.Module) -> None:
    images = generator(16, network=unet)
    expected, shifted = images.images(range(16), seed=5), images.images(range(8, 24), seed=5)
    assert torch.equal(expected[8:], shifted[:8])
    assert torch.equal(images.images(range(16), seed=5), expected)


def test_another_seed_gives_other_images() -> None:
    images = generator(4)
    assert not torch.equal(images.images(range(4), seed=5), images.images(range(4), seed=6))


def test_frames_start_at_pure_noise_and_end_at_the_returned_image() -> None:
    images = generator(4)
    frames = list(images.frames(range(4), seed=5))
    assert [frame.t for frame in frames] == list(range(10, -1, -1))
    first = frames[0].x
    assert abs(first.mean()) < 0.1
    assert first.std().item() == pytest.approx(1, abs=0.1)
    assert torch.equal(((frames[-1].x + 1) * 127.5).round().clamp(0, 255).byte(), images.images(range(4), seed=5))


@pytest.mark.parametrize(("count", "batch_size", "steps"), [(20, 8, 10), (1, 8, 4), (8, 8, 1)])
def test_as_many_network_calls_and_steps_are_made_as_announced(count: int, batch_size: int, steps: int) -> None:
    network = Shrink()
    images = generator(batch_size, steps, network)
    seen: list[int] = []
    images.images(range(count), 0, seen.append)
    assert len(network.modes) == images.network_calls(count)
    assert sum(seen) == images.sampling_steps(count)


def test_the_automatic_batch_size_is_64_on_the_cpu() -> None:
    images = replace(generator(4), batch_size="auto")
    assert images.images_per_batch == 64
    assert images.network_calls(65) == 2 * 10
    assert torch.equal(images.images(range(5), seed=5), generator(64).images(range(5), seed=5))


def test_the_network_is_in_evaluation_mode_while_sampling() -> None:
    network = Shrink().train()
    generator(4, network=network).images(range(4), seed=0)
    assert set(network.modes) == {False}
    assert network.training


class Eager:
    """A sampler that returns `of(frames)` instead of being a generator."""

    def __init__(self, of: Callable[[list[SamplerState]], Any]) -> None:
        self.of = of
        self.modes: list[bool] = []

    def network_calls(self, steps: int) -> int:
        return steps

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Any:
        self.modes.append(torch.is_inference_mode_enabled())
        return self.of(list(AncestralSampler(AncestralConfig()).sample(denoiser, noise, steps)))


@pytest.mark.parametrize("of", [list, iter])
def test_a_sampler_that_returns_a_list_samples_in_evaluation_and_inference_mode(of: Any) -> None:
    network, sampler = Shrink().train(), Eager(of)
    images = replace(generator(4, network=network), sampler=sampler).images(range(4), seed=5)
    assert set(network.modes) == {False}
    assert network.training
    assert sampler.modes == [True]
    assert torch.equal(images, generator(4).images(range(4), seed=5))


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (lambda _frames: None, r"it must yield SamplerState \(t, x, x0_hat\), and returned a NoneType"),
        (lambda frames: [*frames, frames[-1]], "a frame follows the one at t = 0, which must be the last"),
        (lambda frames: [frames[-1], *frames], "a frame follows the one at t = 0, which must be the last"),
    ],
)
def test_a_sampler_without_frames_or_with_frames_after_the_end_is_an_error(of: Any, message: str) -> None:
    """Each frame at t = 0 would count as a further sample."""
    with pytest.raises(ContractError, match=message):
        replace(generator(4), sampler=Eager(of)).images(range(4), seed=5)


def test_the_caller_is_not_left_in_inference_mode() -> None:
    frames: Iterator[object] = generator(2).frames(range(2), seed=0)
    next(frames)
    assert not torch.is_inference_mode_enabled()


def test_only_the_network_runs_in_bfloat16() -> None:
    images = generator(2)
    low = ImageGenerator(**{**vars(images), "runtime": Runtime(torch.device("cpu"), torch.bfloat16)})
    *_, last = low.frames(range(2), seed=0)
    assert last.x.dtype == torch.float32


class Labelled(nn.Module):
    """Predicts an image whose brightness depends on its class."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[list[int]] = []

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        self.labels.append(label.tolist())
        return x - 0.01 * label[:, None, None, None]


def test_image_i_has_class_i_modulo_the_number_of_classes() -> None:
    network = Labelled()
    images = replace(generator(4, 1, network), num_classes=3)
    images.images(range(2, 8), 0)
    assert network.labels == [[2, 0, 1, 2], [0, 1]]
    network.labels.clear()
    replace(images, chosen_class=1).images(range(3), 0)
    assert network.labels == [[1, 1, 1]]


def test_guidance_evaluates_both_branches_in_one_network_call() -> None:
    network = Labelled()
    images = replace(generator(2, 1, network), num_classes=3, guidance=2.0)
    images.images(range(2), 0)
    assert network.labels == [[0, 1, 3, 3]]
    assert images.network_calls(2) == 1
