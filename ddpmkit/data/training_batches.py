"""Training batches on the device of the network: `load` sends what a batch needs, `batch` is work on the device.

If all images fit into a quarter of the free memory of an accelerator, they stay there, and a batch is gathered by its
indices. Otherwise a thread reads the images of the next batch while the device computes.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpmkit.data.images import Batch, ImageSource, to_float
from ddpmkit.errors import ContractError
from ddpmkit.runtime import Runtime

__all__ = ["Examples", "TrainingBatches"]

_MOST_OF_FREE_MEMORY = 0.25
_READ_AT_ONCE = 1024


class Examples(NamedTuple):
    """`images` uint8 [N, C, H, W] before augmentation, `label` int64 [N]."""

    images: Tensor
    label: Tensor


class TrainingBatches:
    """The batches of an `ImageSource`, with the same images and the same augmentation, on the runtime's device.

    The tensors that `batch` reads keep their memory, so a CUDA graph can contain it.
    """

    def __init__(self, source: ImageSource, batch_size: int, runtime: Runtime) -> None:
        """Nothing is read before the first `load`."""
        self.source, self.batch_size, self._runtime = source, batch_size, runtime
        self._indices = torch.zeros(batch_size, dtype=torch.int64, device=runtime.device)
        self._resident: Examples | None = None
        """All images, if they stay on the device."""
        self._loaded: Examples | None = None
        """The images of the batch that was loaded last, otherwise."""
        self._reader: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[Examples]] | None = None

    def indices_of(self, index: int) -> NDArray[np.int64]:
        """Return the indices int64 [batch_size] of the images of batch `index` in the dataset."""
        return self.source.indices_of(index, range(self.batch_size), self.batch_size)

    def load(self, index: int) -> None:
        """Send what `batch` needs for batch `index` to the device, without waiting for the device.

        Raises ContractError for images or labels that the contract of a dataset does not allow.
        """
        is_first = self._resident is None and self._loaded is None
        if is_first and self._runtime.is_accelerator:
            self._resident = self._all_images()
            if self._resident is None:
                self._reader = ThreadPoolExecutor(1, "training-batches")
        indices = self.indices_of(index)
        _send(self._pinned(torch.from_numpy(indices)), self._indices)
        if self._resident is None:
            self._receive(self._read_ahead(index) if self._reader else self._read(indices))

    def batch(self, index: Tensor, positions: range) -> Batch:
        """Return the images at `positions` of the batch that was loaded last, without waiting for the device.

        `index`: int64 [] on the device, the index of that batch.
        """
        indices = self._indices[positions.start : positions.stop]
        if self._resident is not None:
            images, label = self._resident.images[indices], self._resident.label[indices]
        elif self._loaded is not None:
            images, label = (each[positions.start : positions.stop] for each in self._loaded)
        else:
            raise RuntimeError("load a batch first")
        places = torch.arange(positions.start, positions.stop, device=index.device)
        return Batch(to_float(self.source.augmented(images, index, places)), label, indices)

    def _all_images(self) -> Examples | None:
        """Return all images on the device; None if they are too large for it."""
        free, length = self._runtime.free_memory(), len(self.source)
        size = self.source.images(np.zeros(1, dtype=np.int64)).shape[1:]
        if free is None or length * (int(np.prod(size)) + 8) > free * _MOST_OF_FREE_MEMORY:
            return None
        device = self._runtime.device
        images = torch.empty((length, *size), dtype=torch.uint8, device=device)
        label = torch.empty(length, dtype=torch.int64, device=device)
        for start in range(0, length, _READ_AT_ONCE):
            indices = np.arange(start, min(start + _READ_AT_ONCE, length), dtype=np.int64)
            read = self._read(indices)
            _check_size(read.images, images)
            images[start : start + len(indices)] = read.images.to(device)
            label[start : start + len(indices)] = read.label.to(device)
        return Examples(images, label)

    def _read(self, indices: NDArray[np.int64], *, is_guarded: bool = True) -> Examples:
        images = torch.from_numpy(self.source.images(indices, is_guarded=is_guarded))
        return Examples(images, self.source.labels(indices, is_guarded=is_guarded))

    def _read_ahead(self, index: int) -> Examples:
        """Return the examples of batch `index`, and start to read the next batch in the thread."""
        number, reading = self._next or (index, self._start_reading(index))
        if number != index:  # a rollback
            reading = self._start_reading(index)
        examples = reading.result()
        self._next = index + 1, self._start_reading(index + 1)
        return examples

    def _start_reading(self, index: int) -> Future[Examples]:
        assert self._reader is not None
        return self._reader.submit(self._read_pinned, self.indices_of(index))

    def _read_pinned(self, indices: NDArray[np.int64]) -> Examples:
        return Examples(*map(self._pinned, self._read(indices, is_guarded=False)))

    def _pinned(self, tensor: Tensor) -> Tensor:
        """For a CUDA device, return a copy in memory from which the device copies without the host."""
        return tensor.pin_memory() if self._runtime.device.type == "cuda" else tensor

    def _receive(self, examples: Examples) -> None:
        if self._loaded is None:
            device = self._runtime.device
            self._loaded = Examples(*(torch.empty_like(each, device=device) for each in examples))
        _check_size(examples.images, self._loaded.images)
        for source, target in zip(examples, self._loaded, strict=True):
            _send(source, target)


def _send(source: Tensor, target: Tensor) -> None:
    """Copy to the device. Torch keeps pinned memory, and no other memory, until the copy is done."""
    target.copy_(source, non_blocking=source.is_pinned())


def _check_size(images: Tensor, first: Tensor) -> None:
    """Raise ContractError if the images are not as large as the first ones."""
    if images.shape[1:] != first.shape[1:]:
        sizes = f"{list(first.shape[2:])} and {list(images.shape[2:])}"
        raise ContractError("dataset", f"all images must have the same size, and there are images of {sizes}")
