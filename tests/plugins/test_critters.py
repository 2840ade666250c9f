import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddpmkit.contracts import ImageShape
from ddpmkit.errors import InputError
from ddpmkit_plugins.critters import CrittersConfig
from ddpmkit_plugins.critters.dataset import CrittersDataset

SMALL = CrittersConfig(size=40, val_size=10)


def critters(
    config: CrittersConfig = SMALL,
    split: str = "train",
    classes: tuple[str, ...] | None = None,
    shape: ImageShape = ImageShape(3, 16, 16),  # noqa: B008 -- immutable
) -> CrittersDataset:
    return CrittersDataset(config, split=split, classes=classes, image_shape=shape)


def all_of(dataset: CrittersDataset) -> NDArray[np.uint8]:
    return dataset.images(np.arange(len(dataset)))


def test_an_image_depends_on_its_index_and_class_only() -> None:
    images, cats = all_of(critters()), all_of(critters(classes=("cat",)))
    assert np.array_equal(images[::3], cats)
    more = all_of(critters(CrittersConfig(size=70)))
    assert np.array_equal(more[:120], images)


def test_images_are_returned_in_the_requested_order() -> None:
    dataset, asked = critters(), np.array([7, 2, 7, 119])
    assert np.array_equal(dataset.images(asked), all_of(dataset)[asked])
    assert dataset.labels(asked).tolist() == [1, 2, 1, 2]


def test_another_seed_and_the_other_split_have_other_images() -> None:
    train, val, other = critters(), critters(split="val"), critters(CrittersConfig(size=40, seed=1))
    assert len(val) == 30
    images = np.concatenate([all_of(train), all_of(val), all_of(other)])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_an_image_is_the_same_at_every_size() -> None:
    small, large = all_of(critters(shape=ImageShape(3, 32, 32))), all_of(critters(shape=ImageShape(3, 128, 128)))
    reduced = large.reshape(-1, 3, 32, 4, 32, 4).astype(float).mean(axis=(3, 5))
    difference = np.abs(reduced - small)
    assert difference.mean() < 3
    others = np.abs(np.roll(reduced, 3, axis=0) - small)
    assert others.mean() > 10 * difference.mean()


def test_edges_are_about_one_pixel_wide() -> None:
    large = all_of(critters(CrittersConfig(size=4), shape=ImageShape(3, 128, 128))).astype(float)
    steepest = np.abs(np.diff(large, axis=3)).max(axis=(1, 2, 3))
    assert (steepest > 80).all()


def test_the_classes_are_linearly_separable() -> None:
    train, val = critters(CrittersConfig(size=150)), critters(SMALL, split="val")

    def features(dataset: CrittersDataset) -> NDArray[np.float64]:
        pixels = all_of(dataset).reshape(len(dataset), -1) / 255
        return np.hstack([pixels, np.ones((len(dataset), 1))])

    x, wanted = features(train), np.eye(3)[train.labels(np.arange(len(train)))]
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ wanted)
    right = (features(val) @ weights).argmax(axis=1) == val.labels(np.arange(len(val)))
    assert right.mean() > 0.8


@pytest.mark.parametrize("shape", [ImageShape(1, 8, 8), ImageShape(3, 64, 9), ImageShape(1, 9, 30)])
def test_images_of_any_shape_are_not_empty(shape: ImageShape) -> None:
    images = all_of(critters(shape=shape))
    assert images.shape == (120, *shape)
    assert images.dtype == np.uint8
    assert (images.reshape(120, -1).std(axis=1) > 10).all()


def test_light_fades_far_from_the_face_but_not_to_black() -> None:
    wide = all_of(critters(shape=ImageShape(3, 8, 96))).astype(float)
    assert wide[..., :4].mean() > 0.6 * wide[..., 24:28].mean()
    assert wide[..., -4:].mean() > 0.6 * wide[..., -28:-24].mean()


def test_gray_images_equal_the_conversion_by_pillow() -> None:
    colour, gray = all_of(critters()), all_of(critters(shape=ImageShape(1, 16, 16)))
    expected = np.stack([np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L")) for image in colour])
    assert np.abs(gray[:, 0].astype(int) - expected).max() <= 1


def test_labels_index_the_requested_classes() -> None:
    dataset = critters(classes=("wild", "cat"))
    assert dataset.class_names == ("wild", "cat")
    assert dataset.labels(np.arange(4)).tolist() == [0, 1, 0, 1]
    assert np.array_equal(all_of(dataset)[::2], all_of(critters(classes=("wild",))))


def test_the_fingerprint_changes_only_with_the_images() -> None:
    same = {critters().fingerprint, critters().fingerprint}
    assert len(same) == 1
    others = [
        critters(CrittersConfig(size=41)),
        critters(CrittersConfig(size=40, seed=1)),
        critters(split="val"),
        critters(classes=("cat",)),
        critters(shape=ImageShape(1, 16, 16)),
    ]
    assert len({dataset.fingerprint for dataset in others} | same) == 6


def test_an_unknown_class_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(InputError, match="no class 'dgo'") as caught:
        critters(classes=("dgo",))
    assert "did you mean 'dog'?" in str(caught.value)


def test_an_unknown_split_is_an_error_with_the_splits() -> None:
    with pytest.raises(InputError, match="no split 'test'") as caught:
        critters(split="test")
    assert "train, val" in str(caught.value)


def test_val_may_be_empty() -> None:
    assert len(critters(CrittersConfig(size=1, val_size=0), split="val")) == 0


def test_the_manifest_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, ddpmkit_plugins.critters; print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
