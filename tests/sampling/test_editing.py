"""Editing, inpainting and interpolation against closed forms: images of independent Gaussian pixels, and correlated."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ddpmkit.contracts import Sampler
from ddpmkit.data.images import to_float
from ddpmkit.errors import InputError
from ddpmkit.sampling.editing import between_pictures, between_samples, edited, inpainted
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit_plugins.ancestral import AncestralConfig
from ddpmkit_plugins.ancestral.sampler import AncestralSampler

Make = Callable[..., ImageGenerator]
MEAN, STD = 0.2, 0.15
ANCESTRAL = AncestralSampler(AncestralConfig())


class Nonsense(nn.Module):
    """An answer that no picture has asked for."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return 3 * torch.sin(50 * x + t[:, None, None, None])


class Listener(nn.Module):
    """Remembers which labels it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[list[int]] = []

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        self.labels.append(label.tolist())
        return 0.5 * x


@pytest.fixture
def mask() -> Tensor:
    """The lower half of 8 x 10 pixels."""
    return (torch.arange(8) >= 4)[:, None].expand(8, 10)


@pytest.mark.parametrize("strength", [0.3, 0.7])
def test_an_edit_has_the_mean_and_spread_that_calculus_gives(
    generator: Make, sampler: Sampler, strength: float
) -> None:
    """A grey picture two standard deviations off, under 64 draws of noise."""
    grey = torch.full((3, 8, 10), 191, dtype=torch.uint8)
    images = to_float(edited(generator(sampler), grey, strength).images(range(64), seed=1))
    bar = math.cos(strength * math.pi / 2 * 0.999) ** 2
    spread = bar * STD**2 + 1 - bar
    if isinstance(sampler, AncestralSampler):
        # A draw from q(x0 | x_t), x_t being noised from the picture.
        share = bar * STD**2 / spread
        std = math.sqrt(share * (1 - bar) * STD**2 / spread + STD**2 * (1 - bar) / spread)
    else:
        # The probability flow keeps the place of x_t within its distribution.
        share = STD * math.sqrt(bar / spread)
        std = STD * math.sqrt((1 - bar) / spread)
    assert images.mean().item() == pytest.approx(MEAN + share * (to_float(grey)[0, 0, 0].item() - MEAN), abs=0.01)
    assert images.std().item() == pytest.approx(std, rel=0.1)


def test_at_strength_1_nothing_is_left_of_the_picture(generator: Make, sampler: Sampler, picture: Tensor) -> None:
    made = generator(sampler, steps=20)
    assert torch.equal(edited(made, picture, 1).images(range(3), 5), made.images(range(3), 5))


def test_near_strength_0_the_picture_is_left_as_it_was(generator: Make, sampler: Sampler, picture: Tensor) -> None:
    images = edited(generator(sampler, steps=20), picture, 1e-6).images(range(2), 5)
    # One step of noise, 0.008 of 2.
    assert (images.int() - picture.int()).abs().max() <= 5
    assert not torch.equal(images[0], images[1])


def test_a_strength_takes_its_share_of_the_steps(generator: Make, picture: Tensor) -> None:
    for strength, steps, taken in ((0.5, 200, 100), (0.3, 20, 6), (0.01, 20, 1)):
        frames = list(edited(generator(steps=steps), picture, strength).frames([0], 0))
        assert (frames[0].t, len(frames)) == (round(200 * strength), taken + 1)


@pytest.mark.parametrize("steps", [1, 7, 200])
@pytest.mark.parametrize("resample", [1, 2])
def test_what_is_known_stays_exactly(
    generator: Make, sampler: Sampler, picture: Tensor, mask: Tensor, steps: int, resample: int
) -> None:
    images = inpainted(generator(sampler, Nonsense(), steps=steps), picture, mask, resample).images(range(2), 0)
    assert torch.equal(images[:, :, ~mask], picture[:, ~mask].expand(2, -1, -1))
    assert not torch.equal(images[:, :, mask], picture[:, mask].expand(2, -1, -1))


def test_every_level_of_grey_survives(generator: Make, sampler: Sampler, mask: Tensor) -> None:
    for first in range(0, 256, 40):
        picture = (first + torch.arange(240).reshape(3, 8, 10) // 6).clamp(max=255).to(torch.uint8)
        images = inpainted(generator(sampler, steps=3), picture, mask, 1).images(range(1), 0)
        assert torch.equal(images[0][:, ~mask], picture[:, ~mask])


def test_what_is_painted_follows_what_is_known(generator: Make, gaussian: Callable[..., nn.Module]) -> None:
    """Pixels that share their brightness: half of them known means the others have the same, by Bayes' rule."""
    made = generator(ANCESTRAL, gaussian(own=0.05**2, common=0.15**2))
    bright = torch.full((3, 8, 10), 191, dtype=torch.uint8)
    mask = torch.zeros(8, 10, dtype=torch.bool)
    mask[4:] = True
    off = {}
    for resample in (1, 8):
        images = to_float(inpainted(made, bright, mask, resample).images(range(64), 0))[:, :, mask]
        off[resample] = to_float(bright)[0, 0, 0].item() - images.mean().item()
    assert 0 < off[8] < off[1] / 2 < 0.15


def test_with_less_strength_the_painted_part_begins_as_the_picture(
    generator: Make, picture: Tensor, mask: Tensor
) -> None:
    """With pixels that know nothing of each other, both modes at once are each in its place."""
    plain = edited(generator(), picture, 0.4)
    images = inpainted(plain, picture, mask, 1).images(range(3), 0)
    assert torch.equal(images[:, :, mask], plain.images(range(3), 0)[:, :, mask])


def test_one_mixture_of_two_pictures_has_one_noise(generator: Make, picture: Tensor) -> None:
    """The flow of a Gaussian is affine, so that mixing before it is mixing after it."""
    other = 255 - picture
    images = between_pictures(generator(), picture, other, 5, strength=0.5).images(range(5), 3)
    ends = [edited(generator(), end, 0.5).images(range(1), 3)[0] for end in (picture, other)]
    for place, end in ((0, ends[0]), (4, ends[1])):
        assert torch.equal(images[place], end)
    for place in range(5):
        expected = torch.lerp(ends[0].float(), ends[1].float(), place / 4)
        assert (images[place] - expected).abs().max() <= 1


def test_between_samples_lie_images_as_lively_as_they(generator: Make, sampler: Sampler) -> None:
    made = generator(sampler, steps=50)
    samples = made.images(range(8), 3)
    images = between_samples(made, 2, 7, 5).images(range(5), 3)
    assert torch.equal(images[0], samples[2])
    assert torch.equal(images[4], samples[7])
    # Mixed linearly, the middle would have 0.71 of the standard deviation.
    assert to_float(images[2]).std().item() == pytest.approx(to_float(images[0]).std().item(), rel=0.15)
    distances = [(image.float() - images[0].float()).square().mean().sqrt().item() for image in images]
    assert distances == sorted(distances)


@pytest.mark.parametrize("mode", ["edited", "inpainted", "between_pictures", "between_samples"])
def test_an_image_is_the_same_in_any_batch(generator: Make, picture: Tensor, mask: Tensor, mode: str) -> None:
    drawn = []
    for batch_size in (1, 3, 64):
        made = generator(ANCESTRAL, steps=12, batch_size=batch_size)
        modes = {
            "edited": lambda made: edited(made, picture, 0.5),
            "inpainted": lambda made: inpainted(made, picture, mask, 2),
            "between_pictures": lambda made: between_pictures(made, picture, 255 - picture, 5, 0.5),
            "between_samples": lambda made: between_samples(made, 3, 4, 5),
        }
        drawn.append(modes[mode](made).images(range(5), 9))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


def test_classes_and_guidance_are_those_of_samples(generator: Make, picture: Tensor, mask: Tensor) -> None:
    for resample in (1, 2):
        network = Listener()
        made = replace(generator(network=network, steps=4), num_classes=3, guidance=2.0)
        images = inpainted(edited(made, picture, 0.5), picture, mask, resample).images(range(4), 0)
        assert torch.equal(images[:, :, ~mask], picture[:, ~mask].expand(4, -1, -1))
        assert set(map(tuple, network.labels)) == {(0, 1, 2, 0, 3, 3, 3, 3)}


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.1, math.nan])
def test_what_is_no_strength_is_refused(generator: Make, picture: Tensor, strength: float) -> None:
    with pytest.raises(InputError, match="not more than 0 and at most 1"):
        edited(generator(), picture, strength)


def test_progress_reports_as_many_sampling_steps_as_are_announced(
    generator: Make, sampler: Sampler, picture: Tensor, mask: Tensor
) -> None:
    made = generator(sampler, steps=13, batch_size=2)
    for mode in (made, edited(made, picture, 0.5), inpainted(edited(made, picture, 0.7), picture, mask, 3)):
        seen: list[int] = []
        mode.images(range(3), 0, seen.append)
        assert sum(seen) == mode.sampling_steps(3)


def test_pictures_and_masks_of_other_shapes_are_refused(generator: Make, picture: Tensor, mask: Tensor) -> None:
    made = generator()
    with pytest.raises(InputError, match=r"must be uint8 \[3, 8, 10\], not float32 \[3, 8, 10\]"):
        edited(made, picture.float(), 0.5)
    with pytest.raises(InputError, match=r"not uint8 \[1, 8, 10\]"):
        between_pictures(made, picture, picture[:1], 4, 0.5)
    with pytest.raises(InputError, match=r"must be bool \[8, 10\], not bool \[10, 8\]"):
        inpainted(made, picture, mask.T)
    with pytest.raises(InputError, match="leaves nothing to paint"):
        inpainted(made, picture, torch.zeros_like(mask))
    with pytest.raises(InputError, match="resample must be a whole number of at least 1, not 0"):
        inpainted(made, picture, mask, 0)


def test_a_row_has_two_ends(generator: Make, picture: Tensor) -> None:
    with pytest.raises(InputError, match="count must be a whole number of at least 2"):
        between_pictures(generator(), picture, picture, 1, 0.5)
    with pytest.raises(InputError, match="count must be a whole number of at least 2"):
        between_samples(generator(), 0, 1, 1)
    with pytest.raises(InputError, match="nothing between image 3 and itself"):
        between_samples(generator(), 3, 3, 4)
