"""All ways to bring a batch to the device give the batches of the image source."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddpmkit.contracts import ImageShape
from ddpmkit.data.images import Batch, ImageSource
from ddpmkit.data.training_batches import TrainingBatches
from ddpmkit.errors import ContractError
from ddpmkit.runtime import Runtime

LENGTH, SIZE = 10, 4
SHAPE = ImageShape(3, 6, 6)


class Labelled:
    """Random images with labels, which may be of another size in some calls."""

    class_names = ("a", "b", "c")
    fingerprint = "labelled"

    def __init__(self) -> None:
        self.pixels = np.random.default_rng(0).integers(0, 256, (LENGTH, 3, 8, 8)).astype(np.uint8)
        self.threads: list[str] = []
        self.fails: Callable[[], None] = lambda: None
        self.height = 8

    def __len__(self) -> int:
        return LENGTH

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        self.threads.append(threading.current_thread().name)
        self.fails()
        return self.pixels[indices, :, : self.height]

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return indices % 3


class Accelerator(Runtime):
    """The CPU, treated like a device with this many bytes of free memory."""

    free: int | None

    @property
    def is_accelerator(self) -> bool:
        return True

    def free_memory(self) -> int | None:
        return self.free


def accelerator(free: int | None) -> Runtime:
    runtime = Accelerator(torch.device("cpu"), torch.float32)
    object.__setattr__(runtime, "free", free)
    return runtime


def load_all(batches: TrainingBatches, indices: range) -> None:
    for index in indices:
        batches.load(index)


# 10 images of 192 bytes and labels of 8 bytes are 2,000 bytes: a quarter of 8,000.
RUNTIMES = {
    "cpu": Runtime(torch.device("cpu"), torch.float32),
    "resident": accelerator(8000),
    "read ahead": accelerator(7999),
    "unknown memory": accelerator(None),
}


def loaded(batches: TrainingBatches, index: int, positions: range) -> Batch:
    batches.load(index)
    return batches.batch(torch.tensor(index), positions)


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)
def test_the_batches_are_those_of_the_image_source(runtime: Runtime) -> None:
    source = ImageSource(Labelled(), SHAPE, seed=3, flip=True)
    batches = TrainingBatches(source, SIZE, runtime)
    for index in [0, 1, 2, 3, 7, 8, 1, 2, 2**32 + 5]:  # a rollback goes back, and then to other batches
        for positions in (range(SIZE), range(2, SIZE)):
            found, expected = loaded(batches, index, positions), source.batch(index, positions, SIZE)
            assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        assert batches.indices_of(index).tolist() == source.batch(index, range(SIZE), SIZE).indices.tolist()


class Reusing(Labelled):
    """Returns the same memory in each call, as a view that torch does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = np.empty((LENGTH, 3, 8, 8), dtype=np.uint8)
        self.shared_labels = np.empty(LENGTH, dtype=np.int64)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        out = self.shared[: len(indices), :, :, ::-1]
        out[...] = super().images(indices)
        return out

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        out = self.shared_labels[: len(indices)]
        out[...] = super().labels(indices)
        return out


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)
def test_a_dataset_may_use_its_memory_again(runtime: Runtime) -> None:
    expected = ImageSource(Labelled(), SHAPE)
    source = ImageSource(Reusing(), SHAPE)
    batches = TrainingBatches(source, SIZE, runtime)
    for index in range(4):
        batches.load(index)
        if batches._next is not None:
            batches._next[1].result()
        source.center_crops(np.arange(SIZE))  # as a validation does in between
        found = batches.batch(torch.tensor(index), range(SIZE))
        assert all(torch.equal(*pair) for pair in zip(found, expected.batch(index, range(SIZE), SIZE), strict=True))


def test_images_that_fit_are_read_once_and_others_in_a_thread() -> None:
    calls = {}
    for name, runtime in RUNTIMES.items():
        dataset = Labelled()
        batches = TrainingBatches(ImageSource(dataset, SHAPE), SIZE, runtime)
        for index in range(3):
            loaded(batches, index, range(SIZE))
        if batches._next is not None:
            batches._next[1].result()
        calls[name] = dataset.threads
    main = threading.current_thread().name
    assert calls["cpu"] == [main] * 3
    assert calls["resident"] == [main] * 2  # the first image for its size, then all
    assert calls["read ahead"] == [main] + ["training-batches_0"] * 4  # one batch ahead


def test_the_memory_of_the_inputs_stays_the_same() -> None:
    """A CUDA graph reads the addresses of its capture."""
    batches = TrainingBatches(ImageSource(Labelled(), SHAPE), SIZE, RUNTIMES["read ahead"])
    addresses = set()
    for index in range(3):
        batches.load(index)
        assert batches._loaded is not None
        addresses.add(
            (batches._loaded.images.data_ptr(), batches._loaded.label.data_ptr(), batches._indices.data_ptr())
        )
    assert len(addresses) == 1


def test_an_error_in_the_thread_is_raised_when_its_batch_is_loaded() -> None:
    dataset = Labelled()
    batches = TrainingBatches(ImageSource(dataset, SHAPE), SIZE, RUNTIMES["read ahead"])
    batches.load(0)

    def fail() -> None:
        raise OSError("the disk is gone")

    dataset.fails = fail
    with pytest.raises(OSError, match="the disk is gone"):
        load_all(batches, range(1, 3))  # the next batch may have been read already


@pytest.mark.parametrize(("name", "reads"), [("cpu", 1), ("resident", 1), ("read ahead", 2)])
def test_images_of_another_size_are_rejected(name: str, reads: int) -> None:
    dataset = Labelled()
    batches = TrainingBatches(ImageSource(dataset, SHAPE), SIZE, RUNTIMES[name])
    dataset.fails = lambda: setattr(dataset, "height", 7 if len(dataset.threads) > reads else 8)
    with pytest.raises(ContractError, match=r"same size, and there are images of \[8, 8\] and \[7, 8\]"):
        load_all(batches, range(3))
