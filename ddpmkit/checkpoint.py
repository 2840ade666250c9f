"""Checkpoints: folders of safetensors and JSON that are there whole or not at all.

Written beside their place, every file fsynced, a manifest with the SHA-256 of each file last, then one rename. Nothing
is pickled. This module does not know what the tensors mean, or how many checkpoints are worth keeping.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ddpmkit.durable import fsync_folder, open_regular
from ddpmkit.errors import InputError, RunFailed

__all__ = [
    "Checkpoint",
    "DamagedCheckpoint",
    "checkpoint_folders",
    "clear_leftovers",
    "newest_checkpoint",
    "open_checkpoint",
    "remove_checkpoint",
    "save_checkpoint",
    "step_of",
]

FORMAT = 1
MANIFEST = "manifest.json"
LOCK = "recipe.lock.toml"
_NAME = re.compile(r"step-(\d{8,})")
_FILE = re.compile(r"[\w-][\w.-]*", re.ASCII)
_LONGEST_MANIFEST = 2**20
_log = logging.getLogger(__name__)


class DamagedCheckpoint(InputError):
    """A checkpoint is not what its manifest says, or cannot be read."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose every byte has been verified."""

    path: Path
    step: int

    def tensors(self, part: str) -> dict[str, Tensor]:
        """One part ("model", "ema", "optimizer", "progress", ...) on the CPU; empty when the run kept none.

        Raises DamagedCheckpoint when the file is none of safetensors.
        """
        file = self.path / f"{part}.safetensors"
        try:
            return load_file(file) if self.has(part) else {}
        except (SafetensorError, OSError) as error:
            raise DamagedCheckpoint(f"checkpoint {self.path}: {file.name} cannot be read ({error}).") from error

    def has(self, part: str) -> bool:
        """Whether there are tensors of this part."""
        return (self.path / f"{part}.safetensors").exists()

    @property
    def lock(self) -> Path:
        """The recipe lock that the run had, so that a checkpoint alone can be sampled."""
        return self.path / LOCK


def save_checkpoint(parent: Path, step: int, parts: Mapping[str, Mapping[str, Tensor]], lock: Path) -> Checkpoint:
    """Write `parent/step-00000000` from named parts of tensors and a copy of `lock`, and verify it.

    Raises RunFailed when the disk does not take it; nothing half-written is left under the final name.
    """
    final = parent / f"step-{step:08d}"
    partial = parent / f".{final.name}.partial"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        with open_regular(lock, follow_links=False) as content, (partial / LOCK).open("xb") as copy:
            shutil.copyfileobj(content, copy)
        mode = stat.S_IMODE((partial / LOCK).stat().st_mode)
        settled = {}
        # Bytes are hashed and brought to the disk while the next part is written.
        with ThreadPoolExecutor(2) as settling:
            for name, tensors in parts.items():
                file = partial / f"{name}.safetensors"
                save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, file)
                # safetensors creates files that only their owner can read; the umask gave the lock its mode.
                file.chmod(mode)
                settled[file.name] = settling.submit(_settle, file)
            settled[LOCK] = settling.submit(_settle, partial / LOCK)
            files = {name: settled[name].result() for name in sorted(settled)}
        (partial / MANIFEST).write_text(_manifest_text(step, files), encoding="utf-8")
        _fsync(partial / MANIFEST)
        fsync_folder(partial)
        replaced = _set_aside(final, "replaced") if final.exists() else None
        partial.rename(final)
        fsync_folder(parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RunFailed(
            f"the checkpoint {final} could not be written: {reason}.",
            remedies=["free some space and give the same command again: it goes on from the checkpoint before"],
        ) from error
    saved = open_checkpoint(final)
    if replaced is not None:
        remove_checkpoint(replaced)
    return saved


def open_checkpoint(path: Path) -> Checkpoint:
    """Verify one checkpoint. Raises InputError; DamagedCheckpoint where it says what is damaged or missing."""
    step, files = _read_manifest(path)
    if strangers := sorted({file.name for file in path.iterdir()} - {*files, MANIFEST}):
        raise DamagedCheckpoint(f"checkpoint {path}: {MANIFEST} does not know {', '.join(strangers)}.")
    for name, expected in files.items():
        try:
            found = _digest(path / name)
        except FileNotFoundError as error:
            raise DamagedCheckpoint(f"checkpoint {path}: {name} is missing.") from error
        except OSError as error:
            raise DamagedCheckpoint(f"checkpoint {path}: {name} cannot be read ({error.strerror}).") from error
        if found != expected:
            raise DamagedCheckpoint(f"checkpoint {path}: {name} is damaged (its SHA-256 is not the one in {MANIFEST}).")
    return Checkpoint(path, step)


def newest_checkpoint(parent: Path, wanted: Callable[[int], bool] = lambda _step: True) -> Checkpoint | None:
    """The newest checkpoint that verifies, of the steps that are `wanted`. None when there is none.

    Damaged ones on the way are set aside and named. Raises InputError when there are checkpoints but none verifies.
    """
    _put_back(parent)
    folders = [folder for folder in checkpoint_folders(parent) if wanted(step_of(folder))]
    for folder in folders:
        try:
            return open_checkpoint(folder)
        except DamagedCheckpoint as error:
            aside = _set_aside(folder, "damaged")
            _log.warning("%s It was set aside as %s.", error.message, aside.name)
    if folders:
        raise InputError(
            f"none of the {len(folders)} checkpoints in {parent} is whole.",
            remedies=["--out DIR starts afresh in another folder", f"remove {parent.parent} to start over"],
        )
    return None


def checkpoint_folders(parent: Path) -> list[Path]:
    """Checkpoint folders by name alone, newest first."""
    found = [path for path in parent.iterdir() if _NAME.fullmatch(path.name)] if parent.is_dir() else []
    return sorted(found, key=step_of, reverse=True)


def step_of(folder: Path) -> int:
    """The step in the name of a checkpoint folder."""
    return int(folder.name.removeprefix("step-"))


def clear_leftovers(parent: Path) -> None:
    """Delete what a process that was killed left half written, half deleted or replaced; for whoever holds the run."""
    for leftover in [*parent.glob(".step-*.partial"), *parent.glob(".step-*.removed")]:
        shutil.rmtree(leftover, ignore_errors=True)
    _put_back(parent)
    for replaced in parent.glob("step-*.replaced*"):
        # If the new one is damaged, the one that it replaced is worth keeping.
        with contextlib.suppress(InputError):
            open_checkpoint(replaced.with_suffix(""))
            remove_checkpoint(replaced)


def remove_checkpoint(folder: Path) -> None:
    """Delete a checkpoint: first its name, then its files, so that no half of one is ever taken for a checkpoint."""
    doomed = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _manifest_text(step: int, files: Mapping[str, str], version: Any = FORMAT) -> str:
    """The manifest, which ends with a digest of itself."""
    content: dict[str, Any] = {"format": version, "step": step, "files": dict(files)}
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, indent=2) + "\n"


def _read_manifest(path: Path) -> tuple[int, dict[str, str]]:
    """Step, and SHA-256 by file name. Every byte counts: the text must be the one its own content gives."""
    file = path / MANIFEST
    try:
        # Not as text: universal line ends would let a changed byte pass.
        with open_regular(file, follow_links=False) as content:
            text = content.read(_LONGEST_MANIFEST).decode()
        manifest = json.loads(text)
        stated = manifest["format"]
        step, files = int(manifest["step"]), {str(name): str(value) for name, value in manifest["files"].items()}
    except FileNotFoundError as error:
        raise DamagedCheckpoint(f"{path} is no checkpoint: there is no {MANIFEST} in it.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DamagedCheckpoint(f"checkpoint {path}: {MANIFEST} cannot be read ({reason}).") from error
    if text != _manifest_text(step, files, stated) or step < 0 or not all(map(_FILE.fullmatch, files)):
        raise DamagedCheckpoint(f"checkpoint {path}: {MANIFEST} is damaged.")
    if stated != FORMAT:
        raise InputError(f"checkpoint {path} has format {stated}; this ddpmkit reads format {FORMAT}.")
    return step, files


def _set_aside(folder: Path, reason: str) -> Path:
    aside = folder.with_name(f"{folder.name}.{reason}")
    number = 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{folder.name}.{reason}-{number}")
    return folder.rename(aside)


def _put_back(parent: Path) -> None:
    """Give a checkpoint its name back that was set aside for a new one which never came."""
    for replaced in parent.glob("step-*.replaced"):
        if not (final := replaced.with_suffix("")).exists():
            replaced.rename(final)


def _digest(file: Path) -> str:
    with open_regular(file, follow_links=False) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _settle(file: Path) -> str:
    """Have the disk hold a file; its SHA-256."""
    digest = _digest(file)
    _fsync(file)
    return digest


def _fsync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
