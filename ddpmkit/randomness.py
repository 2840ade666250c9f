"""Stateless random numbers: each is a pure function of the seed, its purpose and its counters.

The generator is the counter-based Philox4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3").
Its key is the seed. Its counter is made of the purpose, the step (or draw) and the index of the image. So a resume
needs no saved generator state, and an image has the same noise in every batch, and in every part of a batch (gradient
accumulation).

It is integer arithmetic in torch, so it runs on the device that needs the numbers. Integers and uniform numbers are
the same on every device. Normal numbers are the same but for the last bit of a few in a billion, because devices round
logarithm, sine and cosine differently.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

__all__ = [
    "RANDOMNESS_VERSION",
    "ImageNoise",
    "Purpose",
    "as_integers",
    "as_uniform",
    "integer",
    "integers",
    "normal",
    "permutation",
    "philox",
    "uniform",
    "words",
]

RANDOMNESS_VERSION = 2
"""The meaning of a seed. 1 was Philox4x64 of numpy, on the CPU. A run can be resumed only with its own version."""

Word = int | Tensor
"""A 32-bit word, or an int64 tensor of them."""

_WORD = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_INCREMENTS = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10
_STEP_BITS, _INDEX_BITS = 48, 40
# On a CPU, intermediate results of this many 32-bit words stay in the cache, which halves the time.
_WORDS_AT_ONCE = 2**17


class Purpose(IntEnum):
    """The use of random numbers, 1 .. 255. Numbers of different purposes are independent.

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


def philox(counter: Sequence[Word], key: tuple[int, int]) -> tuple[Word, Word, Word, Word]:
    """Return four random 32-bit words: Philox4x32-10 of Salmon et al. (2011), section 3.3.

    `counter` has four words, as integers or as int64 tensors whose shapes broadcast.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # A product has 64 bits. As int64 it may be negative, but its bits are right.
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = ((product1 >> 32) ^ c1 ^ k0) & _WORD, _low(product1)
        c2, c3 = ((product0 >> 32) ^ c3 ^ k1) & _WORD, _low(product0)
        k0, k1 = (k0 + _KEY_INCREMENTS[0]) & _WORD, (k1 + _KEY_INCREMENTS[1]) & _WORD
    return c0, c1 & _WORD, c2, c3 & _WORD


def words(seed: int, purpose: Purpose, step: int | Tensor, indices: Tensor, count: int = 4) -> Tensor:
    """Return `count` random 32-bit words for each index, int64 [len(indices), count], on the device of `indices`.

    `seed` is in 0 .. 2**63 - 1, `step` in 0 .. 2**48 - 1, an index in 0 .. 2**40 - 1. `step` may be an int64 tensor []
    on the same device. Raises ValueError for an integer outside its range.
    """
    return torch.stack(_blocks(seed, purpose, step, indices, -(-count // 4)), dim=-1).flatten(1)[:, :count]


def uniform(seed: int, purpose: Purpose, step: int | Tensor, indices: Tensor) -> Tensor:
    """Return a multiple of 2**-24 in [0, 1) for each index, float32 [len(indices)]; the arguments are as in `words`."""
    return as_uniform(words(seed, purpose, step, indices, 1)[:, 0])


def integers(seed: int, purpose: Purpose, step: int | Tensor, indices: Tensor, high: int) -> Tensor:
    """Return an integer in 0 .. high-1 for each index, int64 [len(indices)]; the arguments are as in `words`."""
    return as_integers(words(seed, purpose, step, indices, 1)[:, 0], high)


def as_uniform(random: Tensor) -> Tensor:
    """Return 32-bit words as float32 in [0, 1): their upper 24 bits, which float32 represents exactly."""
    return (random >> 8).to(torch.float32) * 2**-24


def as_integers(random: Tensor, high: int | Tensor) -> Tensor:
    """Return 32-bit words as integers in 0 .. high-1, with `high` up to 2**31.

    The probabilities of two values differ by at most 2**-32: Lemire (2019), "Fast Random Integer Generation in an
    Interval", without the rejection.
    """
    return (random * high) >> 32


def normal(seed: int, purpose: Purpose, step: int | Tensor, indices: Tensor, shape: Sequence[int]) -> Tensor:
    """Return standard normal noise for each index, float32 [len(indices), *shape], on the device of `indices`.

    Box & Muller (1958), in float64. The other arguments are as in `words`.
    """
    if indices.device.type == "mps":  # it has no float64
        return normal(seed, purpose, step, indices.cpu(), shape).to(indices.device)
    size = math.prod(shape)
    blocks = -(-size // 4)
    rows = max(1, _WORDS_AT_ONCE // max(1, size)) if indices.device.type == "cpu" else max(1, len(indices))
    parts = [_normal(_blocks(seed, purpose, step, part, blocks)) for part in torch.split(indices, rows)]
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[:, :size].reshape(len(indices), *shape)


def permutation(seed: int, purpose: Purpose, step: int, length: int) -> Tensor:
    """Return 0 .. length-1 in random order, int64 [length], on the CPU: the order of 63-bit random numbers."""
    high, low = words(seed, purpose, step, torch.arange(length), 2).unbind(1)
    return torch.argsort((high << 31) | (low >> 1), stable=True)


def integer(seed: int, purpose: Purpose, step: int = 0, index: int = 0) -> int:
    """Return an integer in 0 .. 2**63 - 1, without a tensor: the seed of another generator, or a random choice."""
    step, index = _in_range("step", step, _STEP_BITS), _in_range("index", index, _INDEX_BITS)
    high, low, _, _ = philox(_counter(purpose, step, index, 0), _key(seed))
    return int((high << 31) | (low >> 1))


@dataclass(frozen=True)
class ImageNoise:
    """The noise of generated images, by (seed, image index, draw). A `ddpmkit.contracts.NoiseSource`."""

    seed: int
    indices: Sequence[int]
    shape: tuple[int, ...]
    device: torch.device

    def __call__(self, draw: int) -> Tensor:
        """Return standard normal noise, float32 [len(indices), *shape], on `device`."""
        return normal(self.seed, Purpose.SAMPLE, draw, self._indices, self.shape)

    @functools.cached_property
    def _indices(self) -> Tensor:
        """`indices` on the device: they are sent once, not with each draw."""
        return torch.tensor(self.indices, dtype=torch.int64, device=self.device)


def _blocks(
    seed: int, purpose: Purpose, step: int | Tensor, indices: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return four words of `count` blocks for each index, int64 [len(indices), count] each."""
    if isinstance(step, int):
        step = _in_range("step", step, _STEP_BITS)
    blocks = torch.arange(count, device=indices.device)
    found = philox(_counter(purpose, step, indices[:, None], blocks), _key(seed))
    shape = (len(indices), count)
    w0, w1, w2, w3 = (torch.as_tensor(word).expand(shape) for word in found)
    return w0, w1, w2, w3


def _counter(purpose: Purpose, step: Word, index: Word, block: Word) -> tuple[Word, Word, Word, Word]:
    """Return the counter of a block: block 32 bits, index 40, step 48, purpose 8."""
    return block, index & _WORD, step & _WORD, (int(purpose) << 24) | ((step >> 32) << 8) | (index >> 32)


def _normal(blocks: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Return four standard normal numbers for each four words, float32 [N, 4 * count]."""
    rows, count = blocks[0].shape
    out = torch.empty((rows, 4, count), dtype=torch.float32, device=blocks[0].device)
    for first in (0, 2):
        # The uniform number under the logarithm is in (0, 1].
        radius = (blocks[first] + 1).to(torch.float64).mul_(2**-32).log_().mul_(-2).sqrt_()
        angle = blocks[first + 1].to(torch.float64).mul_(2 * math.pi * 2**-32)
        out[:, first] = angle.cos().mul_(radius)
        out[:, first + 1] = angle.sin_().mul_(radius)
    return out.flatten(1)


def _key(seed: int) -> tuple[int, int]:
    _in_range("seed", seed, 63)
    return seed & _WORD, seed >> 32


def _in_range(name: str, value: int, bits: int) -> int:
    if not 0 <= value < 2**bits:
        raise ValueError(f"{name} must be in 0 .. 2**{bits} - 1, and is {value}")
    return value


def _low(product: Word) -> Word:
    """Return a product whose low word is right: the upper bits only enter an XOR of which the low word is kept.

    A mask would be one more kernel. But an integer must fit into int64, because it meets a tensor there.
    """
    return product & _WORD if isinstance(product, int) else product
