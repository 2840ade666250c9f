"""What a dataset must do."""

from typing import cast

import numpy as np

from ddpmkit.contracts import Dataset, ImageShape
from ddpmkit.testing.checks import Rule
from ddpmkit.testing.failures import NotApplicable, require
from ddpmkit.testing.subject import Results, Subject

__all__ = ["RULES", "use"]

_SHAPE = ImageShape(3, 16, 16)
_LOOKED_AT = 16


def use(subject: Subject) -> Results:
    """Look at the first pictures."""
    dataset = _build(subject)
    indices = np.arange(min(_LOOKED_AT, len(dataset)))
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


def _pictures(subject: Subject) -> None:
    for shape in (_SHAPE, ImageShape(1, 9, 12)):
        dataset = _build(subject, shape)
        count = min(4, len(dataset))
        require(count > 0, 'the split "train" is empty')
        pictures = dataset.images(np.arange(count))
        seen = f"{pictures.dtype} {list(pictures.shape)}, asked for {count} of {list(shape)}"
        require(pictures.dtype == np.uint8 and pictures.shape == (count, *shape), seen)


def _labels(subject: Subject) -> None:
    dataset = _build(subject)
    labels = dataset.labels(np.arange(len(dataset)))
    require(labels.dtype == np.int64 and labels.shape == (len(dataset),), f"{labels.dtype} {list(labels.shape)}")
    strange = set(labels.tolist()) - set(range(len(dataset.class_names)))
    require(not strange, f"{sorted(strange)} beside {len(dataset.class_names)} classes")


def _classes(subject: Subject) -> None:
    dataset = _build(subject)
    # Labels that number no class are another check's.
    counts = np.unique_counts(dataset.labels(np.arange(len(dataset))))
    sizes = dict(zip(counts.values.tolist(), counts.counts.tolist(), strict=True))
    for label, name in enumerate(dataset.class_names):
        alone = _build(subject, classes=(name,))
        require(tuple(alone.class_names) == (name,), f"asked for {name!r}, its classes are {list(alone.class_names)}")
        known = label in sizes
        require(
            not known or len(alone) == sizes[label],
            f"{name!r} has {len(alone)} pictures alone, {sizes.get(label)} among all",
        )
        labels = np.unique(alone.labels(np.arange(len(alone)))).tolist()
        require(len(labels) <= 1, f"asked for {name!r} alone, labels are {labels}")


def _by_index(subject: Subject) -> None:
    dataset = _build(subject)
    order = np.arange(min(8, len(dataset)))
    forward, backward = dataset.images(order), dataset.images(order[::-1].copy())
    differing = int((forward != backward[::-1]).any(axis=(1, 2, 3)).sum())
    require(not differing, f"asked for in another order, {differing} of {len(order)} pictures differ")


def _fingerprint(subject: Subject) -> None:
    first, second, other = _build(subject), _build(subject), _build(subject, ImageShape(3, 20, 20))
    require(first.fingerprint == second.fingerprint, f"two builds differ: {first.fingerprint}, {second.fingerprint}")
    require(first.fingerprint != other.fingerprint, f"the same at 16 and at 20 px: {first.fingerprint}")


def _validation(subject: Subject) -> None:
    training, held_out = _build(subject), _build(subject, split="val")
    if len(held_out) == 0:
        raise NotApplicable("it has no held-out pictures")
    seen = f'{len(held_out)} pictures in "val" with the fingerprint of "train", {training.fingerprint}'
    require(held_out.fingerprint != training.fingerprint, seen)
    count = min(_LOOKED_AT, len(training), len(held_out))
    indices = np.arange(count)
    same = np.array_equal(training.images(indices), held_out.images(indices))
    require(not same, f'the first {count} pictures of "val" are the first of "train"')


RULES = (
    Rule(
        "dataset.pictures",
        "are pictures uint8 [B, C, H, W] at the size asked for?",
        "Resize and convert when loading: `image_shape` is channels (1 or 3), height and width. Scaling to [-1, 1] is "
        "the core's.",
        _pictures,
    ),
    Rule(
        "dataset.labels",
        "do labels number the classes?",
        "int64, one a picture, from 0, into `class_names`. A dataset without classes has one.",
        _labels,
    ),
    Rule(
        "dataset.classes",
        "can one class be asked for alone?",
        "`classes` names those to show, and None shows all; `class_names` and labels are then of those alone.",
        _classes,
    ),
    Rule(
        "dataset.by-index",
        "is a picture a function of its index?",
        "No order, no state, no augmentation: shuffling and flips are the core's, and a resume must find the same "
        "pictures.",
        _by_index,
    ),
    Rule(
        "dataset.fingerprint",
        "is the fingerprint the same for the same content, and another for another size?",
        "Hash what is shown (file contents, names in order, size), with hashlib: neither `hash` nor `id` nor a time.",
        _fingerprint,
    ),
    Rule(
        "dataset.held-out",
        "can the held-out split be asked for, and is it another one than that for training?",
        'Heed `split`; where there is no "val", give an empty dataset. A loss on pictures that were trained on says '
        "nothing.",
        _validation,
    ),
)
