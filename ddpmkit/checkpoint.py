"""Checkpoints: folders of safetensors and JSON that are there whole or not at all.

Written beside their place, every file fsynced, a manifest with the SHA-256 of each file last, then one rename. Nothing
is pickled. `resumable_checkpoint` is for the process that holds the run folder: it sets damaged checkpoints aside.
`newest_checkpoint` is for everyone else: it changes nothing, and a run may save and remove checkpoints meanwhile.
"""

import contextlib
import hashlib
import json
import logging
import re
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ddpmkit.atomic_io import fsync_file, fsync_folder, open_regular
from ddpmkit.errors import InputError, RunFailed

__all__ = [
    "Checkpoint",
    "DamagedCheckpoint",
    "HeldFiles",
    "checkpoint_folders",
    "clear_leftovers",
    "newest_checkpoint",
    "open_checkpoint",
    "remove_checkpoint",
    "resumable_checkpoint",
    "save_checkpoint",
    "step_of",
]

FORMAT = 1
MANIFEST = "manifest.json"
LOCK = "recipe.lock.toml"
_NAME = re.compile(r"step-(\d{8,})")
_REPLACED = re.compile(r"step-(\d{8,})\.replaced")
_FILE = re.compile(r"[\w-][\w.-]*", re.ASCII)
_LONGEST_MANIFEST = 2**20
_LONGEST_LOCK = 2**20
_MOST_LOOKS = 100
_log = logging.getLogger(__name__)


class DamagedCheckpoint(InputError):
    """A checkpoint is not what its manifest says, or cannot be read."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose every byte has been verified."""

    path: Path
    step: int
    held: "HeldFiles | None" = None
    """What stays readable when the folder is removed; None: everything is read from the folder when it is needed."""

    def tensors(self, part: str) -> dict[str, Tensor]:
        """One part ("model", "ema", "optimizer", "progress", ...) on the CPU; empty when the run kept none.

        Raises DamagedCheckpoint when the file is none of safetensors.
        """
        if self.held is not None:
            return dict(self.held.parts.get(part, {}))
        return _loaded(self.path / f"{part}.safetensors") if self.has(part) else {}

    def has(self, part: str) -> bool:
        """Whether there are tensors of this part."""
        return part in self.held.parts if self.held is not None else (self.path / f"{part}.safetensors").exists()

    @property
    def lock(self) -> Path:
        """The recipe lock that the run had, so that a checkpoint alone can be sampled."""
        return self.path / LOCK

    @property
    def lock_content(self) -> bytes | None:
        """What the lock holds; None: what the file says."""
        return self.held.lock if self.held is not None else None


@dataclass(frozen=True)
class HeldFiles:
    """The content of a checkpoint: its tensors are mapped into memory, which takes none before they are used."""

    parts: Mapping[str, Mapping[str, Tensor]] = field(repr=False)
    lock: bytes = field(repr=False)


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
        fsync_file(partial / MANIFEST)
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


def open_checkpoint(path: Path, *, hold: bool = False) -> Checkpoint:
    """Verify one checkpoint. Raises InputError; DamagedCheckpoint where it says what is damaged or missing.

    With `hold`, everything that was verified stays readable when a running run removes the checkpoint.
    """
    step, files = _read_manifest(path)
    try:
        strangers = sorted({file.name for file in path.iterdir()} - {*files, MANIFEST})
    except OSError as error:
        raise DamagedCheckpoint(f"checkpoint {path} cannot be read ({error.strerror}).") from error
    if strangers:
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
    return Checkpoint(path, step, _hold(path, files) if hold else None)


def newest_checkpoint(parent: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies, held; None when there is none. Changes nothing.

    A run may be saving and removing checkpoints meanwhile: whatever is removed or replaced under our eyes was not
    damaged, and is looked for again. Raises InputError when there are checkpoints but none verifies.
    """
    for _ in range(_MOST_LOOKS):
        folders = _found(parent, _NAME, _REPLACED)
        damaged: list[DamagedCheckpoint] = []
        for folder in folders:
            before, found = _identity(folder), None
            try:
                found = open_checkpoint(folder, hold=True)
            except DamagedCheckpoint as error:
                damaged.append(error)
            if before is None or _identity(folder) != before:
                break
            if found is not None:
                for problem in damaged:
                    _log.warning("%s It is skipped.", problem.message)
                return found
        else:
            if damaged:
                raise _none_is_whole(parent, damaged)
            return None
    raise InputError(f"the checkpoints in {parent} change faster than they can be read.", remedies=["try again"])


def resumable_checkpoint(parent: Path, wanted: Callable[[int], bool] = lambda _step: True) -> Checkpoint | None:
    """The newest checkpoint that verifies, of the steps that are `wanted`. None when there is none.

    Damaged ones on the way are set aside and named: only the process that holds the run folder may call it. Raises
    InputError when there are checkpoints but none verifies.
    """
    _put_back(parent)
    damaged = []
    for folder in checkpoint_folders(parent):
        if wanted(step_of(folder)):
            try:
                return open_checkpoint(folder)
            except DamagedCheckpoint as error:
                damaged.append(error)
                aside = _set_aside(folder, "damaged")
                _log.warning("%s It was set aside as %s.", error.message, aside.name)
    if damaged:
        raise _none_is_whole(parent, damaged)
    return None


def _none_is_whole(parent: Path, damaged: Sequence[DamagedCheckpoint]) -> InputError:
    return InputError(
        f"none of the {len(damaged)} checkpoints in {parent} is whole. {damaged[0].message}",
        remedies=["--out DIR starts afresh in another folder", f"remove {parent.parent} to start over"],
    )


def checkpoint_folders(parent: Path) -> list[Path]:
    """Checkpoint folders by name alone, newest first."""
    return _found(parent, _NAME)


def _found(parent: Path, *names: re.Pattern[str]) -> list[Path]:
    """What has one of these names; of several with one step only the first. In one look, as names may be changing."""
    listing = sorted(parent.iterdir()) if parent.is_dir() else []
    by_step = {step_of(path): path for name in reversed(names) for path in listing if name.fullmatch(path.name)}
    return [by_step[step] for step in sorted(by_step, reverse=True)]


def step_of(folder: Path) -> int:
    """The step in the name of a checkpoint folder, or of one that was set aside."""
    return int(folder.name.partition(".")[0].removeprefix("step-"))


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
    """Delete a checkpoint: first its name, then its files, so that no half of one is ever taken for a checkpoint.

    A folder that holds anything that `save_checkpoint` does not write is kept under another name.
    """
    if not stat.S_ISDIR(folder.lstat().st_mode) or not all(map(_is_ours, folder.iterdir())):
        kept = _set_aside(folder, "kept")
        _log.warning("%s holds files of someone else: it is not removed, but renamed to %s.", folder, kept.name)
        return
    doomed = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _is_ours(file: Path) -> bool:
    is_known = file.name in (MANIFEST, LOCK) or file.suffix == ".safetensors"
    return is_known and stat.S_ISREG(file.lstat().st_mode)


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
    for replaced in _found(parent, _NAME, _REPLACED):
        if _REPLACED.fullmatch(replaced.name):
            replaced.rename(replaced.with_suffix(""))


def _identity(folder: Path) -> tuple[int, int] | None:
    """What a folder keeps when it is renamed, and its successor does not have; None: it is not there."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _hold(path: Path, files: Mapping[str, str]) -> HeldFiles:
    """Raises DamagedCheckpoint when a file is not what it was a moment ago."""
    try:
        with open_regular(path / LOCK, follow_links=False) as file:
            lock = file.read(_LONGEST_LOCK)
    except OSError as error:
        raise DamagedCheckpoint(f"checkpoint {path}: {LOCK} cannot be read ({error.strerror}).") from error
    if hashlib.sha256(lock).hexdigest() != files.get(LOCK):
        raise DamagedCheckpoint(f"checkpoint {path}: {LOCK} is damaged.")
    tensors = [path / name for name in files if name.endswith(".safetensors")]
    return HeldFiles({file.stem: _loaded(file) for file in tensors}, lock)


def _loaded(file: Path) -> dict[str, Tensor]:
    """Raises DamagedCheckpoint."""
    try:
        return load_file(file)
    except (SafetensorError, OSError, RuntimeError) as error:  # torch has a RuntimeError for a file that is not there
        raise DamagedCheckpoint(f"checkpoint {file.parent}: {file.name} cannot be read ({error}).") from error


def _digest(file: Path) -> str:
    with open_regular(file, follow_links=False) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _settle(file: Path) -> str:
    """Have the disk hold a file; its SHA-256."""
    digest = _digest(file)
    fsync_file(file)
    return digest
