"""Checkpoints: folders of safetensors and JSON that are there whole or not at all.

Written beside their place, every file fsynced, a manifest with the SHA-256 of each file last, then one rename. Nothing
is pickled. This module does not know what the tensors mean.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from ddpmkit.errors import InputError, RunFailed
from ddpmkit.rundir import fsync_folder

__all__ = ["Checkpoint", "checkpoint_folders", "newest_checkpoint", "open_checkpoint", "save_checkpoint"]

FORMAT = 1
MANIFEST = "manifest.json"
LOCK = "recipe.lock.toml"
_NAME = re.compile(r"step-(\d{8,})")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose every byte has been verified."""

    path: Path
    step: int

    def tensors(self, part: str) -> dict[str, Tensor]:
        """One part ("model", "ema", "optimizer", "progress") on the CPU; empty when the run kept none."""
        file = self.path / f"{part}.safetensors"
        return load_file(file) if file.exists() else {}

    @property
    def lock(self) -> Path:
        """The recipe lock that the run had, so that a checkpoint alone can be sampled."""
        return self.path / LOCK


def save_checkpoint(parent: Path, step: int, parts: Mapping[str, Mapping[str, Tensor]], lock: Path) -> Checkpoint:
    """Write `parent/step-00000000` from named parts of tensors and a copy of `lock`.

    Raises RunFailed when the disk does not take it; nothing half-written is left under the final name.
    """
    final = parent / f"step-{step:08d}"
    partial = parent / f".{final.name}.partial"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name, tensors in parts.items():
            save_file(
                {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
                partial / f"{name}.safetensors",
            )
        shutil.copyfile(lock, partial / LOCK)
        files = {file.name: _digest(file) for file in sorted(partial.iterdir())}
        (partial / MANIFEST).write_text(_manifest_text(step, files), encoding="utf-8")
        for file in partial.iterdir():
            _fsync(file)
        fsync_folder(partial)
        if final.exists():
            _set_aside(final, "replaced")
        partial.rename(final)
        fsync_folder(parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise RunFailed(
            f"the checkpoint {final} could not be written: {error.strerror or error}.",
            remedies=["free some space and give the same command again: it goes on from the checkpoint before"],
        ) from error
    return Checkpoint(final, step)


def open_checkpoint(path: Path) -> Checkpoint:
    """Verify one checkpoint. Raises InputError that says what is damaged or missing."""
    step, files = _read_manifest(path)
    for name, expected in files.items():
        file = path / name
        if not file.is_file():
            raise InputError(f"checkpoint {path}: {name} is missing.")
        if _digest(file) != expected:
            raise InputError(f"checkpoint {path}: {name} is damaged (its SHA-256 is not the one in {MANIFEST}).")
    return Checkpoint(path, step)


def newest_checkpoint(parent: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies; damaged ones on the way are set aside and named. None when there is none.

    Raises InputError when there are checkpoints but none verifies.
    """
    folders = checkpoint_folders(parent)
    for folder in folders:
        try:
            return open_checkpoint(folder)
        except InputError as error:
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
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def _manifest_text(step: int, files: Mapping[str, str]) -> str:
    """The manifest, which ends with a digest of itself."""
    content: dict[str, Any] = {"format": FORMAT, "step": step, "files": dict(files)}
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, indent=2) + "\n"


def _read_manifest(path: Path) -> tuple[int, dict[str, str]]:
    """Step, and SHA-256 by file name. Every byte counts: the text must be the one its own content gives."""
    file = path / MANIFEST
    try:
        text = file.read_text(encoding="utf-8")
        manifest = json.loads(text)
        if manifest["format"] != FORMAT:
            raise InputError(f"checkpoint {path} has format {manifest['format']}; this ddpmkit reads format {FORMAT}.")
        step, files = int(manifest["step"]), {str(name): str(value) for name, value in manifest["files"].items()}
    except FileNotFoundError as error:
        raise InputError(f"{path} is no checkpoint: there is no {MANIFEST} in it.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"checkpoint {path}: {MANIFEST} cannot be read ({type(error).__name__}: {error}).") from error
    if text != _manifest_text(step, files) or any("/" in name for name in files):
        raise InputError(f"checkpoint {path}: {MANIFEST} is damaged.")
    return step, files


def _set_aside(folder: Path, reason: str) -> Path:
    aside = folder.with_name(f"{folder.name}.{reason}")
    number = 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{folder.name}.{reason}-{number}")
    return folder.rename(aside)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _fsync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
