"""The folder of a run: the paths in it, checks that a run made it, and the lock of the process that writes there."""

import contextlib
import json
import os
import platform
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

from ddpmkit.atomic_io import atomic_write_bytes
from ddpmkit.contracts import Scores, StepRecord
from ddpmkit.errors import InputError
from ddpmkit.file_lock import try_lock
from ddpmkit.recipe.lock import is_lock
from ddpmkit.regular_file import kind_of, open_regular
from ddpmkit.run_log import RunLog

__all__ = ["RunFolder", "check_replaceable", "not_a_run"]

_FILES = ("recipe.lock.toml", "metrics.jsonl", "incidents.jsonl", "report.html", ".lock", ".holder.json")
_FOLDERS = ("checkpoints", "snapshots", "samples", "viz")
# Only files with one of these names are ever deleted.
_GRID = re.compile(r"step-(\d{8,15})\.png", re.ASCII)
_VISUALIZATION = re.compile(r"(forward|backward)(_t\d{4,5})?\.png", re.ASCII)
_PARTIAL = re.compile(r"\..*\.partial", re.DOTALL)
_MOST_NAMED = 3
_LONGEST_HOLDER = 2**16
_SIGN, _HEAD = b"ddpmkit", 1024
"""Every image and page that ddpmkit writes contains this in its first bytes."""


@dataclass(frozen=True)
class RunFolder:
    """`results/<name>/`."""

    path: Path

    @property
    def lock(self) -> Path:
        """The resolved recipe, and the versions of the packages that provide its components."""
        return self.path / "recipe.lock.toml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: step records and scores."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint."""
        return self.path / "checkpoints"

    @property
    def snapshots(self) -> Path:
        """Averages of the weights at earlier steps, from which averages of other widths are computed."""
        return self.path / "snapshots"

    @property
    def report(self) -> Path:
        """The HTML page about the run."""
        return self.path / "report.html"

    def samples(self, step: int) -> Path:
        """Return the grid of samples generated after `step`."""
        return self.path / "samples" / f"step-{step:08d}.png"

    def visualization(self, name: str) -> Path:
        """Return an image of the forward or the reverse process."""
        return self.path / "viz" / f"{name}.png"

    @property
    def log(self) -> RunLog:
        """The log in `metrics`."""
        return RunLog(self.metrics, {"step": StepRecord, "scores": Scores})

    @property
    def incidents(self) -> RunLog:
        """A log of problems and what was done about them. A resumed run appends to it."""
        return RunLog(self.path / "incidents.jsonl")

    def grids(self) -> list[tuple[int, Path]]:
        """Step and path of every grid of samples that the run wrote, by step. Their content is not checked."""
        names = ((_GRID.fullmatch(path.name), path) for path in _entries(self.path / "samples"))
        return sorted((int(match[1]), path) for match, path in names if match is not None)

    def remove_grids_after(self, step: int) -> None:
        """Remove the grids of later steps: a run that resumes at `step` writes them again."""
        for made_at, grid in self.grids():
            if made_at > step and kind_of(grid) == "a file":
                grid.unlink()

    def remove_final_files(self) -> None:
        """Remove the report and the visualizations: a run that continues writes them again after its last step."""
        self.report.unlink(missing_ok=True)
        for image in _entries(self.path / "viz"):
            if _VISUALIZATION.fullmatch(image.name) and kind_of(image) == "a file":
                image.unlink()

    def create(self) -> None:
        """Create the folder, or accept one that is empty or made by a run, and check that it is writable.

        Raises InputError, before anything is written, if the folder contains other files.
        """
        try:
            self._check_kinds()
            if self._other_files():
                self._check_made_by_a_run()
            self.path.mkdir(parents=True, exist_ok=True)
            # The name is new, so it cannot be a link.
            probe = self.path / f".probe.{secrets.token_hex(4)}.partial"
            with probe.open("xb") as file:
                file.write(b"ddpmkit")
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"the run folder {self.path.absolute()} cannot be written: {error.strerror or error}.",
                remedies=["use --out DIR to choose another folder"],
            ) from error

    def check(self) -> None:
        """Raise InputError unless a run made this folder, and all paths that a run writes are files and folders.

        A link inside the folder could point anywhere, and opening a pipe could block indefinitely.
        """
        self._check_kinds()
        self._check_made_by_a_run()

    def _check_kinds(self) -> None:
        for name in (*_FILES, *_FOLDERS):
            kind, expected = kind_of(self.path / name), "a file" if name in _FILES else "a folder"
            if kind not in (None, expected):
                raise InputError(
                    f"{self.path / name} is {kind}; a run needs {expected} there.",
                    remedies=["move it away", "use --out DIR to choose another folder"],
                )

    def _check_made_by_a_run(self) -> None:
        if any(self.checkpoints.glob("step-*/manifest.json")):
            return
        has_lock = kind_of(self.lock) is not None
        if has_lock and is_lock(self.lock):
            return
        found = ", ".join(self._other_files()[:_MOST_NAMED]) or "nothing"
        why = f"{self.lock.name} was not written by ddpmkit" if has_lock else f"it has no {self.lock.name}"
        raise InputError(
            f"{self.path.absolute()} is not a run folder: {why} (it contains {found}). Nothing was written there.",
            remedies=["use --out DIR to choose another folder, such as one that does not exist yet"],
        )

    def _other_files(self) -> list[str]:
        """Return names of entries, except those that a run writes before its lock."""
        try:
            names = sorted(entry.name for entry in os.scandir(self.path))
        except FileNotFoundError:
            return []
        return [name for name in names if name not in (".lock", ".holder.json") and not _PARTIAL.fullmatch(name)]

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Lock the folder for this process. Raises InputError, which names the holder, if another process has it.

        The kernel releases the lock when the process ends. On a file system without locks there is a warning and no
        protection.
        """
        lock, holder = self.path / ".lock", self.path / ".holder.json"
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            raise InputError(
                f"{lock} cannot be opened: {error.strerror or error}.", remedies=["use --out DIR to start another run"]
            ) from error
        try:
            if not try_lock(handle, self.path):
                raise InputError(
                    f"{self.path} is being written by {_describe_holder(holder)}.",
                    remedies=["wait until it is done, or stop it", "use --out DIR to start another run"],
                )
            since = datetime.now(UTC).isoformat(timespec="seconds")
            facts = {"pid": os.getpid(), "host": platform.node(), "since": since}
            atomic_write_bytes(holder, json.dumps(facts).encode())
            yield
            holder.unlink(missing_ok=True)
        finally:
            os.close(handle)


def check_replaceable(files: Iterable[Path]) -> None:
    """Raise InputError unless each file does not exist, or contains the sign of ddpmkit near its start."""
    for path in files:
        if (kind := kind_of(path)) is None:
            continue
        head = b""
        if kind == "a file":
            with open_regular(path, follow_links=False) as file:
                head = file.read(_HEAD)
        if _SIGN not in head:
            raise InputError(
                f"{path} is {kind} that ddpmkit did not write. Nothing was written.",
                remedies=[
                    "use --out DIR to choose another folder, such as one that does not exist yet",
                    "move it away",
                ],
            )


def not_a_run(path: Path, fault: str) -> InputError:
    """Return the error for a `path` that must be the folder of a run: what it is instead, or else its `fault`."""
    if path.is_file():
        if path.suffix == ".toml":
            return InputError(f"{path} is a recipe, not a run folder.", remedies=[f"ddpmkit run {quote(str(path))}"])
        return InputError(f"{path} is a file, not a run folder.")
    if not path.exists():
        fault = f"does not exist (looked in {path.absolute().parent})"
    return InputError(f"{path} {fault}.", remedies=[f"run `ddpmkit run RECIPE --out {quote(str(path))}` to create one"])


def _describe_holder(holder: Path) -> str:
    try:
        with open_regular(holder, follow_links=False) as file:
            facts = json.loads(file.read(_LONGEST_HOLDER))
        return f"process {facts['pid']} on {facts['host']}, since {facts['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"


def _entries(folder: Path) -> list[Path]:
    """Return the entries of a folder; none if `folder` is a link."""
    return list(folder.iterdir()) if kind_of(folder) == "a folder" else []
