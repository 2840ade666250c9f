"""Editing, inpainting and interpolation with a run, from files and from tensors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import ddpmkit
from ddpmkit.errors import InputError

LABELS = {
    **{"use": "critters", "image_size": 8, "size": 8, "val_size": 4},
    **{"classes": ["cat", "wild"], "labels": True},
}


@pytest.fixture
def run(tmp_path: Path, small: Callable[..., dict[str, Any]]) -> ddpmkit.Run:
    return ddpmkit.run(small(train={"steps": 5, "learning_rate": 1e-2}), tmp_path / "run")


@pytest.fixture
def labelled(tmp_path: Path, small: Callable[..., dict[str, Any]]) -> ddpmkit.Run:
    return ddpmkit.run(small(data=LABELS, train={"steps": 5, "learning_rate": 1e-2}), tmp_path / "labelled")


@pytest.fixture
def image() -> Tensor:
    return torch.arange(192, dtype=torch.uint8).reshape(3, 8, 8)


def test_a_file_gives_the_same_images_as_its_tensor(run: ddpmkit.Run, tmp_path: Path, image: Tensor) -> None:
    mask = torch.eye(8, dtype=torch.bool)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "image.png")
    Image.fromarray(mask.numpy()).save(tmp_path / "mask.png")
    edited = run.edit(image, 3, strength=0.5, seed=2)
    assert (edited.dtype, edited.shape) == (torch.uint8, (3, 3, 8, 8))
    assert torch.equal(edited, run.edit(str(tmp_path / "image.png"), 3, strength=0.5, seed=2))
    painted = run.inpaint(image, mask, 3, seed=2)
    assert torch.equal(painted[:, :, ~mask], image[:, ~mask].expand(3, -1, -1))
    assert torch.equal(painted, run.inpaint(tmp_path / "image.png", tmp_path / "mask.png", 3, seed=2))


def test_every_argument_of_a_mode_has_an_effect(run: ddpmkit.Run, image: Tensor) -> None:
    mask = torch.eye(8, dtype=torch.bool)
    edits = [run.edit(image, 2, strength=strength, seed=seed) for strength, seed in ((0.5, 0), (0.9, 0), (0.5, 1))]
    paints = [run.inpaint(image, mask, 2, **{key: value}) for key, value in
              (("seed", 0), ("seed", 1), ("resample", 1), ("strength", 0.3), ("steps", 2))]  # fmt: skip
    for images in (edits, paints):
        assert not any(torch.equal(one, images[0]) for one in images[1:])


def test_interpolation_ends_at_both_samples_or_images(run: ddpmkit.Run, image: Tensor) -> None:
    samples = run.sample(4, seed=7)
    row = run.interpolate(1, 3, 5, seed=7)
    assert torch.equal(row[[0, -1]], samples[[1, 3]])
    row = run.interpolate(image, image.flip(0), 5, strength=0.4, seed=7)
    assert torch.equal(row[:1], run.edit(image, 1, strength=0.4, seed=7))
    assert torch.equal(row[-1:], run.edit(image.flip(0), 1, strength=0.4, seed=7))
    with pytest.raises(InputError, match="needs two images or two sample indices, not one of each"):
        run.interpolate(3, image)


def test_edits_take_each_class_in_turn_and_interpolation_needs_one(labelled: ddpmkit.Run, image: Tensor) -> None:
    mixed, cats, wild = (labelled.edit(image, 4, strength=0.8, class_name=name) for name in (None, "cat", "wild"))
    assert torch.equal(mixed[::2], cats[::2])
    assert torch.equal(mixed[1::2], wild[1::2])
    assert not torch.equal(cats, wild)
    row = labelled.interpolate(0, 1, 3, class_name="wild")
    assert torch.equal(row[[0, -1]], labelled.sample(2, class_name="wild"))
    with pytest.raises(InputError, match="interpolation needs one class") as caught:
        labelled.interpolate(0, 1)
    assert "one of cat, wild" in str(caught.value)


def test_a_grayscale_run_takes_colour_images(
    tmp_path: Path, small: Callable[..., dict[str, Any]], image: Tensor
) -> None:
    grey = ddpmkit.run(small(data={"channels": 1}, train={"steps": 1}), tmp_path / "grey")
    Image.fromarray(image.permute(1, 2, 0).numpy()).resize((30, 20)).save(tmp_path / "image.png")
    mask = torch.eye(8, dtype=torch.bool)
    painted = grey.inpaint(tmp_path / "image.png", mask, 2)
    assert painted.shape == (2, 1, 8, 8)
    assert torch.equal(painted[0][:, ~mask], grey.open_image(tmp_path / "image.png")[:, ~mask])
