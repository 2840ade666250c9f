"""Stateless random numbers: each is a pure function of the seed, its purpose and its counters.

The generator is the counter-based Philox4x64 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"): the
key is (seed, purpose), and the counters are for example the training step and the index in the batch. So a resume needs
no saved generator state, and an image has the same noise in every batch, and in every part of a batch (gradient
accumulation). Numbers are generated on the CPU, so they do not depend on the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from numpy.random import Generator, Philox
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["ImageNoise", "Purpose", "normal", "permutation", "stream", "uniform_integers"]


class Purpose(IntEnum):
    """The use of a stream. Streams of different purposes do not overlap.

    A changed value changes all results of a seed.
    """

    ORDER = 1
    TIMESTEP = 2
    NOISE = 3
    AUGMENT = 4
    INIT = 5
    VALIDATION = 6
    SAMPLE = 7
    SPLIT = 8
    OFFSET = 9
    LABEL_DROPOUT = 10
    NETWORK = 11
    SELF_CONDITIONING = 12
    SUBSET = 13


def stream(seed: int, purpose: Purpose, *counters: int) -> Generator:
    """Return the generator at up to three counters, such as step and index in the batch.

    Seed and counters are in 0 .. 2**63 - 1; missing counters are 0. Raises ValueError for more than three.
    """
    unused = 3 - len(counters)
    # Word 0 of Philox's counter advances as numbers are generated. The other three are ours.
    return Generator(Philox(key=[seed, int(purpose)], counter=[0, *counters, *[0] * unused]))


def permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """Return the order of images in an epoch, int64 [length]."""
    return stream(seed, Purpose.ORDER, epoch).permutation(length)


def uniform_integers(seed: int, purpose: Purpose, step: int, indices: Sequence[int], high: int) -> Tensor:
    """Return an integer in 0 .. high-1 for each index, int64 [len(indices)], on the CPU."""
    integers = [int(stream(seed, purpose, step, index).integers(high)) for index in indices]
    return torch.tensor(integers, dtype=torch.int64)


def normal(seed: int, purpose: Purpose, step: int, indices: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return standard normal noise for each index, float32 [len(indices), *shape], on the CPU."""
    out = np.empty((len(indices), *shape), dtype=np.float32)
    for row, index in enumerate(indices):
        stream(seed, purpose, step, index).standard_normal(dtype=np.float32, out=out[row])
    return torch.from_numpy(out)


@dataclass(frozen=True)
class ImageNoise:
    """The noise of generated images, by (seed, image index, draw). A `ddpmkit.contracts.NoiseSource`."""

    seed: int
    indices: Sequence[int]
    shape: tuple[int, ...]
    device: torch.device

    def __call__(self, draw: int) -> Tensor:
        """Return standard normal noise, float32 [len(indices), *shape], on `device`."""
        return normal(self.seed, Purpose.SAMPLE, draw, self.indices, self.shape).to(self.device)
