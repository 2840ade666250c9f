"""The checks of a dataset."""

from typing import cast

import numpy as np

from ddpmkit.contracts import Dataset, ImageShape
from ddpmkit.testing.checks import Rule
from ddpmkit.testing.failures import NotApplicable, require
from ddpmkit.testing.subject import Results, Subject

__all__ = ["RULES", "use"]

_SHAPE = ImageShape(3, 16, 16)
_MAX_IMAGES = 16


def use(subject: Subject) -> Results:
    """Load the first images."""
    dataset = _build(subject)
    indices = np.arange(min(_MAX_IMAGES, len(dataset)))
    return {
        "images": dataset.images(indices),
        "labels": dataset.labels(indices),
        "length": len(dataset),
        "class names": tuple(dataset.class_names),
    }


def _build(
    subject: Subject, shape: ImageShape = _SHAPE, split: str = "train", classes: tuple[str, ...] | None = None
) -> Dataset:
    return cast(Dataset, subject.build(split=split, classes=classes, image_shape=shape))


def _images(subject: Subject) -> None:
    for shape in (_SHAPE, ImageShape(1, 9, 12)):
        dataset = _build(subject, shape)
        count = min(4, len(dataset))
        require(count > 0, 'the split "train" is empty')
        images = dataset.images(np.arange(count))
        found = f"{images.dtype} {list(images.shape)} instead of uint8 {[count, *shape]}"
        require(images.dtype == np.uint8 and images.shape == (count, *shape), found)


def _labels(subject: Subject) -> None:
    dataset = _build(subject)
    labels = dataset.labels(np.arange(len(dataset)))
    require(
        labels.dtype == np.int64 and labels.shape == (len(dataset),),
        f"{labels.dtype} {list(labels.shape)} instead of int64 {[len(dataset)]}",
    )
    invalid = set(labels.tolist()) - set(range(len(dataset.class_names)))
    require(not invalid, f"the labels include {sorted(invalid)}, and there are {len(dataset.class_names)} classes")


def _classes(subject: Subject) -> None:
    dataset = _build(subject)
    # Labels that are not a class index belong to another check.
    counts = np.unique_counts(dataset.labels(np.arange(len(dataset))))
    sizes = dict(zip(counts.values.tolist(), counts.counts.tolist(), strict=True))
    for label, name in enumerate(dataset.class_names):
        alone = _build(subject, classes=(name,))
        found = f"with classes = {(name,)}, class_names is {list(alone.class_names)}"
        require(tuple(alone.class_names) == (name,), found)
        require(
            label not in sizes or len(alone) == sizes[label],
            f"{name!r} has {len(alone)} images alone, and {sizes.get(label)} among all classes",
        )
        labels = np.unique(alone.labels(np.arange(len(alone)))).tolist()
        require(len(labels) <= 1, f"with classes = {(name,)}, labels are {labels}")


def _by_index(subject: Subject) -> None:
    dataset = _build(subject)
    order = np.arange(min(8, len(dataset)))
    forward, backward = dataset.images(order), dataset.images(order[::-1].copy())
    differing = int((forward != backward[::-1]).any(axis=(1, 2, 3)).sum())
    require(not differing, f"{differing} of {len(order)} images differ if they are requested in another order")


def _fingerprint(subject: Subject) -> None:
    first, second, other = _build(subject), _build(subject), _build(subject, ImageShape(3, 20, 20))
    require(first.fingerprint == second.fingerprint, f"two builds differ: {first.fingerprint}, {second.fingerprint}")
    require(first.fingerprint != other.fingerprint, f"it is the same at 16 and at 20 pixels: {first.fingerprint}")


def _validation(subject: Subject) -> None:
    training, validation = _build(subject), _build(subject, split="val")
    if len(validation) == 0:
        raise NotApplicable("it has no validation images")
    found = f'"val" has {len(validation)} images and the same fingerprint as "train", {training.fingerprint}'
    require(validation.fingerprint != training.fingerprint, found)
    count = min(_MAX_IMAGES, len(training), len(validation))
    indices = np.arange(count)
    same = np.array_equal(training.images(indices), validation.images(indices))
    require(not same, f'the first {count} images of "val" and of "train" are equal')


RULES = (
    Rule(
        "dataset.pictures",
        "images are uint8 [B, C, H, W] with the requested `image_shape`",
        "Resize and convert images when loading them: `image_shape` contains channels (1 or 3), height and width. "
        "The core scales to [-1, 1].",
        _images,
    ),
    Rule(
        "dataset.labels",
        "labels are int64 [B], and each is an index into `class_names`",
        "Return one label per image, counted from 0. A dataset without classes has a single class.",
        _labels,
    ),
    Rule(
        "dataset.classes",
        "`classes` selects a subset of the classes",
        "Load only the classes named in `classes`, or all of them for None. `class_names` and the labels then refer "
        "to that subset.",
        _classes,
    ),
    Rule(
        "dataset.by-index",
        "an image depends only on its index",
        "Do not shuffle, augment or keep state: the core shuffles and flips, and a resumed run must load the same "
        "images.",
        _by_index,
    ),
    Rule(
        "dataset.fingerprint",
        "the fingerprint depends on the content and the image size only",
        "Hash the content (bytes of the files, names in order, image size) with hashlib. Do not use `hash`, `id` or "
        "a time.",
        _fingerprint,
    ),
    Rule(
        "dataset.held-out",
        'the split "val" can be built, and differs from "train"',
        'Use `split`. If there are no validation images, return an empty dataset for "val": the loss on training '
        "images does not measure generalization.",
        _validation,
    ),
)
