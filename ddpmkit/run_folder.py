"""The folder a run leaves: names of what is in it, and who may write there.

It does not know what a run does.
"""

import contextlib
import json
import os
import platform
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

from ddpmkit.atomic_io import open_regular, write_atomically
from ddpmkit.contracts import Scores, StepRecord
from ddpmkit.errors import InputError
from ddpmkit.file_lock import take_turn
from ddpmkit.recipe.lock import is_lock
from ddpmkit.run_log import RunLog

__all__ = ["RunFolder", "check_replaceable", "not_a_run"]

_FILES = ("recipe.lock.toml", "metrics.jsonl", "incidents.jsonl", "report.html", ".lock", ".holder.json")
_FOLDERS = ("checkpoints", "snapshots", "samples", "viz")
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}
# Only what has one of these names is ever deleted.
_GRID = re.compile(r"step-(\d{8,15})\.png", re.ASCII)
_VISUALIZATION = re.compile(r"(forward|backward)(_t\d{4,5})?\.png", re.ASCII)
_PARTIAL = re.compile(r"\..*\.partial", re.DOTALL)
_MOST_NAMED = 3
_LONGEST_HOLDER = 2**16
_SIGN, _HEAD = b"ddpmkit", 1024
"""What every image and page of ddpmkit holds within its first bytes."""


@dataclass(frozen=True)
class RunFolder:
    """`results/<name>/` and the places in it."""

    path: Path

    @property
    def lock(self) -> Path:
        """The resolved recipe with the versions of all that took part."""
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
        """Averages of the weights at earlier steps, one folder each, from which averages of other widths are made."""
        return self.path / "snapshots"

    @property
    def report(self) -> Path:
        """The page that explains the run."""
        return self.path / "report.html"

    def samples(self, step: int) -> Path:
        """The grid of samples drawn after `step`."""
        return self.path / "samples" / f"step-{step:08d}.png"

    def visualization(self, name: str) -> Path:
        """A picture of the forward or the reverse process."""
        return self.path / "viz" / f"{name}.png"

    def create(self) -> None:
        """Make the folder, or accept one that is empty or a run's, and try to write in it.

        Raises InputError before anything is written when the folder holds someone's own files.
        """
        try:
            self._check_kinds()
            if self._foreign():
                self._check_made_by_a_run()
            self.path.mkdir(parents=True, exist_ok=True)
            # A name that nothing has yet cannot be a link.
            probe = self.path / f".probe.{secrets.token_hex(4)}.partial"
            with probe.open("xb") as file:
                file.write(b"ddpmkit")
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"the run folder {self.path.absolute()} cannot be written: {error.strerror or error}.",
                remedies=["--out DIR names another folder"],
            ) from error

    def check(self) -> None:
        """Raise InputError unless a run made this folder, and everything in it that a run writes is what it must be.

        A link inside the folder could lead anywhere, and a pipe could be waited for without end.
        """
        self._check_kinds()
        self._check_made_by_a_run()

    def _check_kinds(self) -> None:
        for name in (*_FILES, *_FOLDERS):
            kind = _kind(self.path / name)
            if kind not in (None, "a file" if name in _FILES else "a folder"):
                raise InputError(
                    f"{self.path / name} is {kind}; a run needs {'a file' if name in _FILES else 'a folder'} there.",
                    remedies=["move it away", "--out names another place"],
                )

    def _check_made_by_a_run(self) -> None:
        if any(self.checkpoints.glob("step-*/manifest.json")):
            return
        has_lock = _kind(self.lock) is not None
        if has_lock and is_lock(self.lock):
            return
        found = ", ".join(self._foreign()[:_MOST_NAMED]) or "nothing"
        why = f"{self.lock.name} was not written by ddpmkit" if has_lock else f"it has no {self.lock.name}"
        raise InputError(
            f"{self.path.absolute()} is not the folder of a run: {why} (it holds {found}). Nothing was written there.",
            remedies=["--out names another place, such as a folder that does not exist yet"],
        )

    def _foreign(self) -> list[str]:
        """Names of what a run does not write before its lock."""
        try:
            names = sorted(entry.name for entry in os.scandir(self.path))
        except FileNotFoundError:
            return []
        return [name for name in names if name not in (".lock", ".holder.json") and not _PARTIAL.fullmatch(name)]

    @property
    def log(self) -> RunLog:
        """The lines of `metrics`."""
        return RunLog(self.metrics, {"step": StepRecord, "scores": Scores})

    @property
    def incidents(self) -> RunLog:
        """What went wrong on the way, and what was done about it; a run that goes on adds to it."""
        return RunLog(self.path / "incidents.jsonl")

    def grids(self) -> list[tuple[int, Path]]:
        """Step and path of every grid of samples that the run itself wrote, by step; it may have been damaged since."""
        names = ((_GRID.fullmatch(path.name), path) for path in _inside(self.path / "samples"))
        return sorted((int(match[1]), path) for match, path in names if match is not None)

    def forget_samples_after(self, step: int) -> None:
        """Drop the grids of later steps: a run that resumes at `step` will make them again."""
        for made_at, grid in self.grids():
            if made_at > step and _kind(grid) == "a file":
                grid.unlink()

    def forget_end(self) -> None:
        """Drop what is made once the last step is done: a run that went on beyond it will make it again."""
        self.report.unlink(missing_ok=True)
        for image in _inside(self.path / "viz"):
            if _VISUALIZATION.fullmatch(image.name) and _kind(image) == "a file":
                image.unlink()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Have the folder to oneself. Raises InputError, which names the holder, when another process has it.

        The lock is the kernel's: it ends with the process, however that ends. A file system that has no locks gets a
        warning, and no protection.
        """
        lock, holder = self.path / ".lock", self.path / ".holder.json"
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            raise InputError(
                f"{lock} cannot be opened: {error.strerror or error}.", remedies=["--out DIR makes another run"]
            ) from error
        try:
            if not take_turn(handle, self.path):
                raise InputError(
                    f"{self.path} is being written by {_described(holder)}.",
                    remedies=["wait until it is done, or stop it", "--out DIR makes another run"],
                )
            since = datetime.now(UTC).isoformat(timespec="seconds")
            write_atomically(holder, json.dumps({"pid": os.getpid(), "host": platform.node(), "since": since}).encode())
            yield
            holder.unlink(missing_ok=True)
        finally:
            os.close(handle)


def check_replaceable(files: Iterable[Path]) -> None:
    """Raise InputError unless each of the files is absent, or one that ddpmkit wrote: those say so at their start."""
    for path in files:
        if (kind := _kind(path)) is None:
            continue
        head = b""
        if kind == "a file":
            with open_regular(path, follow_links=False) as file:
                head = file.read(_HEAD)
        if _SIGN not in head:
            raise InputError(
                f"{path} is {kind} that ddpmkit did not write. Nothing was written.",
                remedies=["--out names another place, such as a folder that does not exist yet", "move it away"],
            )


def _described(holder: Path) -> str:
    try:
        with open_regular(holder, follow_links=False) as file:
            facts = json.loads(file.read(_LONGEST_HOLDER))
        return f"process {facts['pid']} on {facts['host']}, since {facts['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"


def _kind(path: Path) -> str | None:
    """What is there, in words; None: nothing. A link is told apart from what it leads to."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    return _KINDS.get(stat.S_IFMT(mode), "a device")


def _inside(folder: Path) -> list[Path]:
    """What is in a folder of the run folder; nothing if the folder is a link."""
    return list(folder.iterdir()) if _kind(folder) == "a folder" else []


def not_a_run(path: Path, fault: str) -> InputError:
    """The error for a `path` that must be the folder of a run: what it is instead, or else its `fault`."""
    if path.is_file():
        if path.suffix == ".toml":
            return InputError(f"{path} is a recipe, not a run folder.", remedies=[f"ddpmkit run {quote(str(path))}"])
        return InputError(f"{path} is a file, not a run folder.")
    if not path.exists():
        fault = f"does not exist (looked in {path.absolute().parent})"
    return InputError(f"{path} {fault}.", remedies=[f"ddpmkit run RECIPE --out {quote(str(path))} makes one"])
