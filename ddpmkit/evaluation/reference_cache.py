"""Reference states on disk: one safetensors file each, with a digest of its content inside.

A file that does not verify is as good as none. It does not know what makes two references the same: the key does.
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
    """What is kept of a reference."""

    num_images: int
    state: State
    floor: Mapping[str, float]


def path_of(key: str) -> Path:
    """Where the reference with this key is kept."""
    return cache_folder() / "references" / f"{key}.safetensors"


def store(key: str, num_images: int, state: State, floor: Mapping[str, float]) -> None:
    """Keep a reference; where that is not possible, say so and go on."""
    tensors = {
        "num_images": torch.tensor(num_images),
        **{_STATE + name: tensor.contiguous() for name, tensor in state.items()},
        **{_FLOOR + name: torch.tensor(value, dtype=torch.float64) for name, value in floor.items()},
    }
    path = path_of(key)
    try:
        atomic_write_bytes(path, save({**tensors, "digest": _digest(tensors)}))
    except Exception as error:
        # A full disk, or names and types that the file format lacks: the score must not depend on it.
        logger.warning("the reference cannot be kept in %s and will be measured again: %s", path.parent, error)


def load(key: str) -> Entry | None:
    """The reference with this key, or None when there is none or its file does not verify."""
    path = path_of(key)
    # A pipe under that name would be waited for.
    if not path.is_file():
        return None
    try:
        return _entry(load_file(path))
    except Exception as error:
        # There is no end to the ways in which a file can be no reference: by its header, its names, its types.
        logger.warning("%s cannot be used and is measured again: %s", path, error)
        return None


def _entry(tensors: dict[str, Tensor]) -> Entry:
    """Raises ValueError where they do not match their digest, and others where that does not help."""
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
