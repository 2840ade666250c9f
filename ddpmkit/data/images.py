"""Turns the images of a dataset into training batches: order, random crop, horizontal flip, scaling to [-1, 1].

Every random choice is a pure function of (seed, step, index in the batch).
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpmkit.contracts import Dataset, ImageShape
from ddpmkit.errors import ContractError, RunFailed
from ddpmkit.global_state import Guard
from ddpmkit.plural import counted
from ddpmkit.randomness import Purpose, as_integers, as_uniform, permutation, words

__all__ = ["Batch", "ImageSource", "evenly_spread", "to_float", "to_uint8"]


class Batch(NamedTuple):
    """`x0` float32 [B, C, H, W] in [-1, 1], `label` int64 [B], `indices` int64 [B] in the dataset."""

    x0: Tensor
    label: Tensor
    indices: Tensor


class ImageSource:
    """The images of a dataset: an endless sequence of training batches, and centre crops by index."""

    def __init__(
        self,
        dataset: Dataset,
        image_shape: ImageShape,
        *,
        seed: int = 0,
        flip: bool = False,
        guard: Guard = contextlib.nullcontext,
    ) -> None:
        """Images of the dataset may be larger than `image_shape`: batches use random crops.

        `guard("dataset")` is entered for each call of the dataset.
        """
        self.dataset = dataset
        self.image_shape = image_shape
        self.seed = seed
        self.flip = flip
        self._guard = guard
        self._reading = threading.Lock()  # a batch may be read in a thread, and a dataset need not be thread-safe
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, step: int, positions: range, batch_size: int) -> Batch:
        """Return the images at `positions` (within 0 .. batch_size-1) of the batch of optimizer step `step` (from 0).

        A batch may span two epochs: each epoch contains every image exactly once.
        """
        indices = self.indices_of(step, positions, batch_size)
        images = torch.from_numpy(self.images(indices))
        augmented = self.augmented(images, step, torch.arange(positions.start, positions.stop))
        return Batch(to_float(augmented), self.labels(indices), torch.from_numpy(indices))

    def indices_of(self, step: int, positions: range, batch_size: int) -> NDArray[np.int64]:
        """Return the indices int64 [B] of the images of `batch`."""
        return np.array([self._index(step * batch_size + position) for position in positions], dtype=np.int64)

    def center_crops(self, indices: NDArray[np.int64]) -> Tensor:
        """uint8 [B, C, H, W]: the centre of each image, not flipped."""
        _, height, width = self.image_shape
        images = self.images(indices)
        top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
        return torch.from_numpy(np.ascontiguousarray(images[:, :, top : top + height, left : left + width]))

    def labels(self, indices: NDArray[np.int64], *, is_guarded: bool = True) -> Tensor:
        """int64 [B], each in 0 .. classes - 1. Raises ContractError. `is_guarded` is as in `images`."""
        with self._call(is_guarded):
            labels, classes = _copied(self.dataset.labels(indices)), len(self.dataset.class_names)
        if not isinstance(labels, np.ndarray) or labels.shape != indices.shape or labels.dtype.kind not in "iu":
            raise ContractError("dataset", f"labels must be int64 [{len(indices)}], not {_described(labels)}")
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            # The label after the last class is the null label: an image with it would silently be unconditional.
            found = f"{labels.min()} .. {labels.max()}"
            raise ContractError("dataset", f"labels must be in 0 .. {classes - 1}, one for each class, not in {found}")
        return torch.from_numpy(labels.astype(np.int64, copy=False))

    def images(self, indices: NDArray[np.int64], *, is_guarded: bool = True) -> NDArray[np.uint8]:
        """uint8 [B, C, H, W], at least as large as `image_shape`. Raises ContractError.

        A thread other than the main one sets `is_guarded` to False: a guard restores settings of the whole process,
        which the main thread may be changing.
        """
        with self._call(is_guarded):
            images = _copied(self.dataset.images(indices))
        channels, height, width = self.image_shape
        if (
            not isinstance(images, np.ndarray)
            or images.dtype != np.uint8
            or images.ndim != 4
            or images.shape[:2] != (len(indices), channels)
            or images.shape[2] < height
            or images.shape[3] < width
        ):
            wanted = [len(indices), channels, height, width]
            raise ContractError("dataset", f"images must be uint8 {wanted} or larger, not {_described(images)}")
        return images

    @contextlib.contextmanager
    def _call(self, is_guarded: bool) -> Iterator[None]:
        with self._reading, self._guard("dataset") if is_guarded else contextlib.nullcontext():
            yield

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, len(self.dataset))
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, permutation(self.seed, Purpose.ORDER, epoch % 2**48, len(self.dataset)).numpy()
        return int(self._order[1][place])

    def augmented(self, images: Tensor, step: int | Tensor, positions: Tensor) -> Tensor:
        """Return a random crop of each image, flipped in half of the cases: uint8 [B, C, H, W].

        The images, `step` (an integer or int64 []) and `positions` int64 [B] are on one device.
        """
        _, height, width = self.image_shape
        random = words(self.seed, Purpose.AUGMENT, step, positions, 3)
        top = as_integers(random[:, 0], images.shape[2] - height + 1)
        left = as_integers(random[:, 1], images.shape[3] - width + 1)
        if images.shape[2:] != (height, width):
            images = _crops(images, top, left, height, width)
        if self.flip:
            is_flipped = as_uniform(random[:, 2]) < 0.5
            images = torch.where(is_flipped[:, None, None, None], images.flip(3), images)
        return images


def _crops(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Return the part [height, width] of each image that begins at `top` and `left`, int64 [B]."""
    image, channel = (
        torch.arange(len(images), device=images.device),
        torch.arange(images.shape[1], device=images.device),
    )
    row = top[:, None] + torch.arange(height, device=images.device)
    column = left[:, None] + torch.arange(width, device=images.device)
    return images[image[:, None, None, None], channel[:, None, None], row[:, None, :, None], column[:, None, None, :]]


def _copied(value: Any) -> Any:
    """Copy an array: a dataset may use its memory again in the next call, or return a view that torch does not take."""
    return np.array(value, order="C") if isinstance(value, np.ndarray) else value


def _described(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def evenly_spread(length: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the indices 0 .. length - 1, in ascending order: a random one from each of equal parts.

    So each class is chosen in its proportion if the list is sorted by class, and also if the classes alternate. The
    result depends on `length` and `most` only.
    """
    count = min(length, most)
    edges = torch.arange(count + 1) * length // max(count, 1)
    random = words(0, Purpose.SUBSET, length, torch.arange(count), 1)[:, 0]
    chosen: NDArray[np.int64] = (edges[:-1] + as_integers(random, edges.diff())).numpy()
    return chosen


def to_float(images: Tensor) -> Tensor:
    """uint8 0 .. 255 -> float32 [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Float [N, C, H, W] in [-1, 1] -> uint8 0 .. 255, on the CPU. Values outside are clipped.

    Raises RunFailed for NaN and infinity, which would be ordinary pixels as uint8.
    """
    images = images.float()
    if not bool(images.isfinite().all()):
        bad = int((~images.isfinite()).reshape(len(images), -1).any(dim=1).sum())
        raise RunFailed(
            f"{bad} of {counted(len(images), 'image')} cannot be used: they contain NaN or infinity.",
            remedies=["use another sampler, or more steps", "use a checkpoint from before the training diverged"],
        )
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()
