"""The contract of a dataset. It does not know in what order the pictures are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ddpmkit.contracts.runtime import ImageShape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Dataset", "InspectableDataset", "Inspection"]


class Dataset(Protocol):
    """Pictures by index.

    Built with `split: Literal["train", "val"]`, `classes: tuple[str, ...] | None` (None: all) and
    `image_shape: ImageShape` of the pictures to be delivered.

    Order, batches, flips and scaling are the core's affair. A split that is not there raises `InputError`, except
    "val", for which an empty dataset is returned.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that `labels` number, in order."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of the content: equal exactly when the same images come in the same order."""
        ...

    def __len__(self) -> int:
        """How many pictures this split has."""
        ...

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 [B, C, H, W] in `image_shape`."""
        ...

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [B], into `class_names`."""
        ...


class InspectableDataset(Protocol):
    """What the target of a dataset may offer besides: a look at all of its files, for `ddpmkit data check`."""

    @classmethod
    def inspect(
        cls,
        config: Any,
        *,
        classes: tuple[str, ...] | None,
        image_shape: ImageShape,
        progress: Callable[[int, int], None],
    ) -> Inspection:
        """Read every file of every split, whatever was found before; nothing is written.

        `progress` is told how many files were read, and of how many. Raises `InputError` where there are none at all.
        """
        ...


@dataclass(frozen=True)
class Inspection:
    """What a dataset found when it looked at all of its files."""

    counts: Mapping[str, Mapping[str, int]]
    """Whole pictures by split and class. A split that is not there is left out."""
    bad: Mapping[Path, str]
    """Each file that cannot be used, and why."""
    alike: tuple[tuple[Path, ...], ...] = ()
    """Groups of files with the same content."""
    notes: tuple[str, ...] = ()
    """What else the owner of the files should know, in sentences."""
