"""Stateless randomness: every draw is a pure function of the seed and of what it is for.

The streams are Philox4x64 counters (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"): the key is
(seed, purpose), the counter names the draw. So a resume needs no stored generator, image 17 has the same noise whatever
the batch size, and two ranks see what one would have seen. Numbers are drawn on the CPU, so that the device does not
change them.
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
    """What a stream is for; streams of unlike purpose never overlap. The numbers are part of the seed's meaning."""

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
    """The generator for one draw, named by up to three counters (step, index in the global batch, ...).

    Seed and counters are 0 .. 2**63 - 1; a counter left out is 0. Raises ValueError when there are more than three.
    """
    unused = 3 - len(counters)
    # Word 0 of the counter advances as numbers are taken; the other three name the draw.
    return Generator(Philox(key=[seed, int(purpose)], counter=[0, *counters, *[0] * unused]))


def permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """The order of images in one epoch: int64 [length]."""
    return stream(seed, Purpose.ORDER, epoch).permutation(length)


def uniform_integers(seed: int, purpose: Purpose, step: int, indices: Sequence[int], high: int) -> Tensor:
    """One integer in 0 .. high-1 per index: int64 [len(indices)]."""
    draws = [int(stream(seed, purpose, step, index).integers(high)) for index in indices]
    return torch.tensor(draws, dtype=torch.int64)


def normal(seed: int, purpose: Purpose, step: int, indices: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal noise per index: float32 [len(indices), *shape], on the CPU."""
    out = np.empty((len(indices), *shape), dtype=np.float32)
    for row, index in enumerate(indices):
        stream(seed, purpose, step, index).standard_normal(dtype=np.float32, out=out[row])
    return torch.from_numpy(out)


@dataclass(frozen=True)
class ImageNoise:
    """Noise of generated images: a function of (seed, image index, draw). A `ddpmkit.contracts.NoiseSource`."""

    seed: int
    indices: Sequence[int]
    shape: tuple[int, ...]
    device: torch.device

    def __call__(self, draw: int) -> Tensor:
        """Float32 [len(indices), *shape] on `device`."""
        return normal(self.seed, Purpose.SAMPLE, draw, self.indices, self.shape).to(self.device)
