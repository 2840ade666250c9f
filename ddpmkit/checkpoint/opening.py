"""Opens a checkpoint: verifies every byte, and reads its tensors."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ddpmkit.checkpoint.manifest import LOCK, MANIFEST, DamagedCheckpoint, read_manifest
from ddpmkit.regular_file import open_regular, sha256_file

__all__ = ["Checkpoint", "Content", "open_checkpoint"]

_LONGEST_LOCK = 2**20


@dataclass(frozen=True)
class Content:
    """The content of a checkpoint, readable after its folder was removed. Tensors are memory-mapped."""

    parts: Mapping[str, Mapping[str, Tensor]] = field(repr=False)
    lock: bytes = field(repr=False)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder in which every byte has been verified."""

    path: Path
    step: int
    content: Content | None = None
    """Its content; None: files are read from the folder when they are needed."""

    def tensors(self, part: str) -> dict[str, Tensor]:
        """The tensors of one part ("model", "ema", "optimizer", "progress", ...) on the CPU; empty if not saved.

        Raises DamagedCheckpoint if the file is not a safetensors file.
        """
        if self.content is not None:
            return dict(self.content.parts.get(part, {}))
        return _load(self.path / f"{part}.safetensors") if self.has(part) else {}

    def has(self, part: str) -> bool:
        """Whether tensors of this part were saved."""
        return part in self.content.parts if self.content is not None else (self.path / f"{part}.safetensors").exists()

    @property
    def lock(self) -> Path:
        """The recipe lock of the run, so that a checkpoint alone can be sampled."""
        return self.path / LOCK

    @property
    def lock_content(self) -> bytes | None:
        """The content of `lock`; None: it is read from the file."""
        return self.content.lock if self.content is not None else None


def open_checkpoint(path: Path, *, load: bool = False) -> Checkpoint:
    """Verify one checkpoint. Raises DamagedCheckpoint, which names the damaged or missing file, or InputError.

    With `load`, the content is loaded, and stays readable if a run removes the checkpoint.
    """
    step, files = read_manifest(path)
    try:
        unknown = sorted({file.name for file in path.iterdir()} - {*files, MANIFEST})
    except OSError as error:
        raise DamagedCheckpoint(f"checkpoint {path} cannot be read ({error.strerror}).") from error
    if unknown:
        raise DamagedCheckpoint(f"checkpoint {path}: {MANIFEST} does not list {', '.join(unknown)}.")
    for name, expected in files.items():
        try:
            found = sha256_file(path / name, follow_links=False)
        except FileNotFoundError as error:
            raise DamagedCheckpoint(f"checkpoint {path}: {name} is missing.") from error
        except OSError as error:
            raise DamagedCheckpoint(f"checkpoint {path}: {name} cannot be read ({error.strerror}).") from error
        if found != expected:
            raise DamagedCheckpoint(f"checkpoint {path}: {name} is damaged (its SHA-256 is not the one in {MANIFEST}).")
    return Checkpoint(path, step, _read_content(path, files) if load else None)


def _read_content(path: Path, files: Mapping[str, str]) -> Content:
    """Raises DamagedCheckpoint if a file has changed since it was verified."""
    try:
        with open_regular(path / LOCK, follow_links=False) as file:
            lock = file.read(_LONGEST_LOCK)
    except OSError as error:
        raise DamagedCheckpoint(f"checkpoint {path}: {LOCK} cannot be read ({error.strerror}).") from error
    if hashlib.sha256(lock).hexdigest() != files.get(LOCK):
        raise DamagedCheckpoint(f"checkpoint {path}: {LOCK} is damaged.")
    tensors = [path / name for name in files if name.endswith(".safetensors")]
    return Content({file.stem: _load(file) for file in tensors}, lock)


def _load(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError, RuntimeError) as error:  # torch raises RuntimeError for a missing file
        raise DamagedCheckpoint(f"checkpoint {file.parent}: {file.name} cannot be read ({error}).") from error
