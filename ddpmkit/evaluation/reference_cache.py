"""Stores reference statistics on disk: one safetensors file per reference, which contains a digest of its content.

A file that does not verify is ignored. The key identifies the reference.
"""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ddpmkit.atomic_io import atomic_write_bytes
from ddpmkit.environment import cache_folder
from ddpmkit.evaluation.metric_state import State

__all__ = ["Entry", "load", "path_of", "store"]

logger = logging.getLogger(__name__)

_STATE, _FLOOR = "state.", "floor."


class Entry(NamedTuple):
    """A stored reference."""

    num_images: int
    state: State
    floor: Mapping[str, float]


def path_of(key: str) -> Path:
    """The file of the reference with this key."""
    return cache_folder() / "references" / f"{key}.safetensors"


def store(key: str, num_images: int, state: State, floor: Mapping[str, float]) -> None:
    """Store a reference; if that fails, log a warning."""
    tensors = {
        "num_images": torch.tensor(num_images),
        **{_STATE + name: tensor.contiguous() for name, tensor in state.items()},
        **{_FLOOR + name: torch.tensor(value, dtype=torch.float64) for name, value in floor.items()},
    }
    path = path_of(key)
    try:
        atomic_write_bytes(path, save({**tensors, "digest": _digest(tensors)}))
    except Exception as error:
        # A full disk, or names and types that the format does not support, must not prevent the score.
        logger.warning("the reference cannot be stored in %s and will be measured again: %s", path.parent, error)


def load(key: str) -> Entry | None:
    """The reference with this key; None if it does not exist or its file does not verify."""
    path = path_of(key)
    # Reading a pipe would block.
    if not path.is_file():
        return None
    try:
        return _entry(load_file(path))
    except Exception as error:
        # An invalid file can raise many errors: in its header, its names, its types.
        logger.warning("%s cannot be used; the reference is measured again: %s", path, error)
        return None


def _entry(tensors: dict[str, Tensor]) -> Entry:
    """Raises ValueError if the tensors do not match their digest; other errors if entries are missing."""
    digest = tensors.pop("digest", None)
    if digest is None or digest.tolist() != _digest(tensors).tolist():
        raise ValueError("its content does not match its digest")
    return Entry(
        int(tensors.pop("num_images")),
        {name.removeprefix(_STATE): tensor for name, tensor in tensors.items() if name.startswith(_STATE)},
        {name.removeprefix(_FLOOR): float(tensor) for name, tensor in tensors.items() if name.startswith(_FLOOR)},
    )


def _digest(tensors: Mapping[str, Tensor]) -> Tensor:
    """SHA-256 over names, types, shapes and content: uint8 [32]."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
