"""A dataset of cartoon animal faces: image i is a function of (seed, split, i) at any size.

The images are generated when the dataset is built, and stay in memory.
"""

import difflib
import hashlib
import json

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray

from ddpmkit.contracts import ImageShape
from ddpmkit.plugin import InputError
from ddpmkit_plugins.critters import CrittersConfig
from ddpmkit_plugins.critters.drawing import DRAWING_VERSION, SPECIES, draw_faces

_SPLITS = ("train", "val")
# ITU-R BT.601, as Pillow's conversion to "L".
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# Large enough for efficient array operations, small enough for the processor's cache.
_BATCH_SIZE = 32


class CrittersDataset:
    """Images of alternating classes: cat, dog, wild, cat, ..."""

    def __init__(
        self, config: CrittersConfig, *, split: str, classes: tuple[str, ...] | None, image_shape: ImageShape
    ) -> None:
        """Raises InputError for an unknown class or split."""
        if split not in _SPLITS:
            raise InputError(f"critters has no split {split!r}.", remedies=[f"available splits: {', '.join(_SPLITS)}"])
        self.class_names = classes or SPECIES
        for name in self.class_names:
            _check_class(name)
        per_class = config.size if split == "train" else config.val_size
        count = per_class * len(self.class_names)
        self._labels = np.arange(count, dtype=np.int64) % len(self.class_names)
        self._pixels = np.empty((count, *image_shape), dtype=np.uint8)
        for label, name in enumerate(self.class_names):
            for start in range(0, per_class, _BATCH_SIZE):
                indices = range(start, min(start + _BATCH_SIZE, per_class))
                rows = np.array(indices) * len(self.class_names) + label
                self._pixels[rows] = _images(config.seed, split, name, indices, image_shape)
        facts = [DRAWING_VERSION, config.seed, split, per_class, self.class_names, image_shape]
        self.fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def __len__(self) -> int:
        """The number of images."""
        return len(self._labels)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 [B, C, H, W]."""
        return self._pixels[indices]

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [B]."""
        return self._labels[indices]


def _check_class(name: str) -> None:
    if name in SPECIES:
        return
    close = difflib.get_close_matches(name, SPECIES, n=1)
    guess = [f"did you mean {close[0]!r}?"] if close else []
    raise InputError(f"critters has no class {name!r}.", remedies=[*guess, f"available classes: {', '.join(SPECIES)}"])


def _images(seed: int, split: str, name: str, indices: range, shape: ImageShape) -> NDArray[np.uint8]:
    """uint8 [N, C, H, W]. The random stream of an image does not depend on its size or on other images."""
    key = [seed, _SPLITS.index(split)]
    streams = [Generator(Philox(key=key, counter=[0, SPECIES.index(name), index, 0])) for index in indices]
    faces = draw_faces(name, streams, shape.height, shape.width)
    if shape.channels == 1:
        faces = (faces @ _LUMA)[..., None]
    return (faces * 255).round().astype(np.uint8).transpose(0, 3, 1, 2)
