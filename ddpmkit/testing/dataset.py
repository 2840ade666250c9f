"""What a dataset must do."""

from typing import cast

import numpy as np

from ddpmkit.contracts import Dataset, ImageShape
from ddpmkit.testing.checks import Checks, Subject, require

__all__ = ["checks"]

_SHAPE = ImageShape(3, 16, 16)


def checks() -> Checks:
    """Id, question, advice, and the function that asks."""
    yield (
        "pictures",
        "are pictures uint8 [B, C, H, W] at the size asked for?",
        "Resize and convert when loading.",
        _pictures,
    )
    yield "labels", "do labels number the classes?", "int64, into `class_names`.", _labels
    yield "classes", "can one class be asked for alone?", "`classes` names those to show; None shows all.", _classes
    yield "by-index", "is a picture a function of its index?", "No order, no state, no augmentation.", _by_index
    yield "fingerprint", "is the fingerprint the same for the same content?", "Hash what is shown.", _fingerprint
    yield "validation", "can the held-out split be asked for?", 'Where there is none, "val" is empty.', _validation


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
    labels = dataset.labels(np.arange(len(dataset)))
    for label, name in enumerate(dataset.class_names):
        alone = _build(subject, classes=(name,))
        require(tuple(alone.class_names) == (name,), f"asked for {name!r}, its classes are {list(alone.class_names)}")
        require(len(alone) == int((labels == label).sum()), f"{name!r} has {len(alone)} pictures alone")
        require(not alone.labels(np.arange(len(alone))).any(), f"asked for {name!r} alone, labels are not all 0")


def _by_index(subject: Subject) -> None:
    dataset = _build(subject)
    order = np.arange(min(8, len(dataset)))
    forward, backward = dataset.images(order), dataset.images(order[::-1].copy())
    require(np.array_equal(forward, backward[::-1]), "asked for in another order, pictures differ")


def _fingerprint(subject: Subject) -> None:
    first, second, other = _build(subject), _build(subject), _build(subject, ImageShape(3, 20, 20))
    require(first.fingerprint == second.fingerprint, "two builds differ")
    require(first.fingerprint != other.fingerprint, "the same at 16 and at 20 px")


def _validation(subject: Subject) -> None:
    require(len(_build(subject, split="val")) >= 0, "its length is negative")
