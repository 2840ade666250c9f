"""The contract of a dataset: it returns images by index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ddpmkit.contracts.kinds import ImageShape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Dataset", "InspectableDataset", "Inspection"]


class Dataset(Protocol):
    """Images and labels by index. The core shuffles, batches, flips and scales the images.

    Built with `split: Literal["train", "val"]`; `classes: tuple[str, ...] | None`, the classes to load (None for all);
    and `image_shape: ImageShape`, the shape of the images to return.

    The constructor raises InputError if the split "train" or one of the classes does not exist. If the split "val" does
    not exist, the dataset is empty.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the loaded classes. A label is an index into this tuple."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of the content, in printable characters: equal if and only if all images and their order are equal."""
        ...

    def __len__(self) -> int:
        """Return the number of images in this split."""
        ...

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return images, uint8 [B, C, H, W] in 0 .. 255, with (C, H, W) = `image_shape`.

        `indices`: int64 [B], 0 .. len - 1, in any order. Training on an accelerator may call it in another thread, but
        never in two threads at once.
        """
        ...

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return class labels, int64 [B], 0 .. len(class_names) - 1. `indices`: as for `images`."""
        ...


class InspectableDataset(Protocol):
    """Optional for the class of a dataset: inspects all files, for `ddpmkit data check`."""

    @classmethod
    def inspect(
        cls,
        config: Any,
        *,
        classes: tuple[str, ...] | None,
        image_shape: ImageShape,
        progress: Callable[[int, int], None],
    ) -> Inspection:
        """Read every file of every split without a cache, and write nothing.

        Call `progress(done, total)` with the number of files read and in total. Raises InputError without any file.
        """
        ...


@dataclass(frozen=True)
class Inspection:
    """The result of inspecting all files of a dataset."""

    counts: Mapping[str, Mapping[str, int]]
    """The number of intact images by split and class. A split that does not exist is omitted."""
    bad: Mapping[Path, str]
    """The files that cannot be used, with the reason."""
    alike: tuple[tuple[Path, ...], ...] = ()
    """Groups of files with the same content."""
    notes: tuple[str, ...] = ()
    """Other findings, as sentences."""
