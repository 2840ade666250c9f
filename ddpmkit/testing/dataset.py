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
    yield "by-index", "is a picture a function of its index?", "No order, no state, no augmentation.", _by_index
    yield "fingerprint", "is the fingerprint the same for the same content?", "Hash what is shown.", _fingerprint
    yield "validation", "can the held-out split be asked for?", 'Where there is none, "val" is empty.', _validation


def _build(subject: Subject, shape: ImageShape = _SHAPE, split: str = "train") -> Dataset:
    return cast(Dataset, subject.build(split=split, classes=None, image_shape=shape))


def _pictures(subject: Subject) -> None:
    for shape in (_SHAPE, ImageShape(1, 9, 12)):
        dataset = _build(subject, shape)
        pictures = dataset.images(np.arange(min(4, len(dataset))))
        seen = f"{pictures.dtype} {list(pictures.shape)}"
        require(pictures.dtype == np.uint8 and pictures.shape[1:] == tuple(shape), seen)


def _labels(subject: Subject) -> None:
    dataset = _build(subject)
    labels = dataset.labels(np.arange(len(dataset)))
    inside = bool(((labels >= 0) & (labels < len(dataset.class_names))).all())
    require(labels.dtype == np.int64 and inside, f"{labels.dtype} from {labels.min()} to {labels.max()}")


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
