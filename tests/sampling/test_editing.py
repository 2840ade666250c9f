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
from ddpmkit.sampling.editing import image_interpolation, image_to_image, inpainting, sample_interpolation
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit_plugins.ancestral import AncestralConfig
from ddpmkit_plugins.ancestral.sampler import AncestralSampler

Make = Callable[..., ImageGenerator]
MEAN, STD = 0.2, 0.15
ANCESTRAL = AncestralSampler(AncestralConfig())


class Nonsense(nn.Module):
    """A prediction that has nothing to do with the image."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return 3 * torch.sin(50 * x + t[:, None, None, None])


class RecordsLabels(nn.Module):
    """Records the labels of each call."""

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
def test_image_to_image_has_the_mean_and_deviation_of_the_closed_form(
    generator: Make, sampler: Sampler, strength: float
) -> None:
    """A grey image two standard deviations from the mean, with 64 different noises."""
    grey = torch.full((3, 8, 10), 191, dtype=torch.uint8)
    images = to_float(image_to_image(generator(sampler), grey, strength).images(range(64), seed=1))
    bar = math.cos(strength * math.pi / 2 * 0.999) ** 2
    variance = bar * STD**2 + 1 - bar
    if isinstance(sampler, AncestralSampler):
        # A sample of q(x0 | x_t), where x_t is the noised image.
        share = bar * STD**2 / variance
        std = math.sqrt(share * (1 - bar) * STD**2 / variance + STD**2 * (1 - bar) / variance)
    else:
        # The probability flow preserves the quantile of x_t.
        share = STD * math.sqrt(bar / variance)
        std = STD * math.sqrt((1 - bar) / variance)
    assert images.mean().item() == pytest.approx(MEAN + share * (to_float(grey)[0, 0, 0].item() - MEAN), abs=0.01)
    assert images.std().item() == pytest.approx(std, rel=0.1)


def test_strength_1_gives_ordinary_samples(generator: Make, sampler: Sampler, image: Tensor) -> None:
    made = generator(sampler, steps=20)
    assert torch.equal(image_to_image(made, image, 1).images(range(3), 5), made.images(range(3), 5))


def test_a_strength_near_0_hardly_changes_the_image(generator: Make, sampler: Sampler, image: Tensor) -> None:
    images = image_to_image(generator(sampler, steps=20), image, 1e-6).images(range(2), 5)
    # One noising step of standard deviation 0.008, where the range is 2.
    assert (images.int() - image.int()).abs().max() <= 5
    assert not torch.equal(images[0], images[1])


def test_the_strength_is_the_share_of_the_sampling_steps(generator: Make, image: Tensor) -> None:
    for strength, steps, taken in ((0.5, 200, 100), (0.3, 20, 6), (0.01, 20, 1)):
        frames = list(image_to_image(generator(steps=steps), image, strength).frames([0], 0))
        assert (frames[0].t, len(frames)) == (round(200 * strength), taken + 1)


@pytest.mark.parametrize("steps", [1, 7, 200])
@pytest.mark.parametrize("resample", [1, 2])
def test_known_pixels_are_exact(
    generator: Make, sampler: Sampler, image: Tensor, mask: Tensor, steps: int, resample: int
) -> None:
    images = inpainting(generator(sampler, Nonsense(), steps=steps), image, mask, resample).images(range(2), 0)
    assert torch.equal(images[:, :, ~mask], image[:, ~mask].expand(2, -1, -1))
    assert not torch.equal(images[:, :, mask], image[:, mask].expand(2, -1, -1))


def test_known_pixels_of_every_grey_level_are_exact(generator: Make, sampler: Sampler, mask: Tensor) -> None:
    for first in range(0, 256, 40):
        image = (first + torch.arange(240).reshape(3, 8, 10) // 6).clamp(max=255).to(torch.uint8)
        images = inpainting(generator(sampler, steps=3), image, mask, 1).images(range(1), 0)
        assert torch.equal(images[0][:, ~mask], image[:, ~mask])


def test_generated_pixels_match_the_known_ones(generator: Make, gaussian: Callable[..., nn.Module]) -> None:
    """All pixels share their brightness. If half of them is known, the others have the same, by Bayes' rule."""
    made = generator(ANCESTRAL, gaussian(own=0.05**2, common=0.15**2))
    bright = torch.full((3, 8, 10), 191, dtype=torch.uint8)
    mask = torch.zeros(8, 10, dtype=torch.bool)
    mask[4:] = True
    off = {}
    for resample in (1, 8):
        images = to_float(inpainting(made, bright, mask, resample).images(range(64), 0))[:, :, mask]
        off[resample] = to_float(bright)[0, 0, 0].item() - images.mean().item()
    assert 0 < off[8] < off[1] / 2 < 0.15


def test_inpainting_combines_with_image_to_image(generator: Make, image: Tensor, mask: Tensor) -> None:
    """If pixels are independent, the generated pixels are those of image-to-image alone."""
    plain = image_to_image(generator(), image, 0.4)
    images = inpainting(plain, image, mask, 1).images(range(3), 0)
    assert torch.equal(images[:, :, mask], plain.images(range(3), 0)[:, :, mask])


def test_image_interpolation_uses_one_noise(generator: Make, image: Tensor) -> None:
    """The probability flow of a Gaussian is affine, so mixing the inputs equals mixing the results."""
    other = 255 - image
    images = image_interpolation(generator(), image, other, 5, strength=0.5).images(range(5), 3)
    ends = [image_to_image(generator(), end, 0.5).images(range(1), 3)[0] for end in (image, other)]
    for place, end in ((0, ends[0]), (4, ends[1])):
        assert torch.equal(images[place], end)
    for place in range(5):
        expected = torch.lerp(ends[0].float(), ends[1].float(), place / 4)
        assert (images[place] - expected).abs().max() <= 1


def test_interpolated_samples_have_the_deviation_of_samples(generator: Make, sampler: Sampler) -> None:
    made = generator(sampler, steps=50)
    samples = made.images(range(8), 3)
    images = sample_interpolation(made, 2, 7, 5).images(range(5), 3)
    assert torch.equal(images[0], samples[2])
    assert torch.equal(images[4], samples[7])
    # Mixed linearly, the middle would have 0.71 of the standard deviation.
    assert to_float(images[2]).std().item() == pytest.approx(to_float(images[0]).std().item(), rel=0.15)
    distances = [(image.float() - images[0].float()).square().mean().sqrt().item() for image in images]
    assert distances == sorted(distances)


@pytest.mark.parametrize("mode", ["image_to_image", "inpainting", "image_interpolation", "sample_interpolation"])
def test_an_image_is_the_same_in_every_batch(generator: Make, image: Tensor, mask: Tensor, mode: str) -> None:
    generated = []
    for batch_size in (1, 3, 64):
        made = generator(ANCESTRAL, steps=12, batch_size=batch_size)
        modes = {
            "image_to_image": lambda made: image_to_image(made, image, 0.5),
            "inpainting": lambda made: inpainting(made, image, mask, 2),
            "image_interpolation": lambda made: image_interpolation(made, image, 255 - image, 5, 0.5),
            "sample_interpolation": lambda made: sample_interpolation(made, 3, 4, 5),
        }
        generated.append(modes[mode](made).images(range(5), 9))
    assert torch.equal(generated[0], generated[1])
    assert torch.equal(generated[0], generated[2])


def test_editing_modes_use_class_labels_and_guidance(generator: Make, image: Tensor, mask: Tensor) -> None:
    for resample in (1, 2):
        network = RecordsLabels()
        made = replace(generator(network=network, steps=4), num_classes=3, guidance=2.0)
        images = inpainting(image_to_image(made, image, 0.5), image, mask, resample).images(range(4), 0)
        assert torch.equal(images[:, :, ~mask], image[:, ~mask].expand(4, -1, -1))
        assert set(map(tuple, network.labels)) == {(0, 1, 2, 0, 3, 3, 3, 3)}


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.1, math.nan])
def test_an_invalid_strength_is_rejected(generator: Make, image: Tensor, strength: float) -> None:
    with pytest.raises(InputError, match="must be above 0 and at most 1"):
        image_to_image(generator(), image, strength)


def test_progress_reports_as_many_sampling_steps_as_are_announced(
    generator: Make, sampler: Sampler, image: Tensor, mask: Tensor
) -> None:
    made = generator(sampler, steps=13, batch_size=2)
    for mode in (
        made,
        image_to_image(made, image, 0.5),
        inpainting(image_to_image(made, image, 0.7), image, mask, 3),
    ):
        seen: list[int] = []
        mode.images(range(3), 0, seen.append)
        assert sum(seen) == mode.sampling_steps(3)


def test_images_and_masks_of_other_shapes_are_rejected(generator: Make, image: Tensor, mask: Tensor) -> None:
    made = generator()
    with pytest.raises(InputError, match=r"must be uint8 \[3, 8, 10\], not float32 \[3, 8, 10\]"):
        image_to_image(made, image.float(), 0.5)
    with pytest.raises(InputError, match=r"not uint8 \[1, 8, 10\]"):
        image_interpolation(made, image, image[:1], 4, 0.5)
    with pytest.raises(InputError, match=r"must be bool \[8, 10\], not bool \[10, 8\]"):
        inpainting(made, image, mask.T)
    with pytest.raises(InputError, match="no white pixel, so there is nothing to paint"):
        inpainting(made, image, torch.zeros_like(mask))
    with pytest.raises(InputError, match="resample must be an integer of at least 1, not 0"):
        inpainting(made, image, mask, 0)


def test_interpolation_needs_two_different_ends(generator: Make, image: Tensor) -> None:
    with pytest.raises(InputError, match="count must be an integer of at least 2"):
        image_interpolation(generator(), image, image, 1, 0.5)
    with pytest.raises(InputError, match="count must be an integer of at least 2"):
        sample_interpolation(generator(), 0, 1, 1)
    with pytest.raises(InputError, match="cannot interpolate between image 3 and itself"):
        sample_interpolation(generator(), 3, 3, 4)
