"""The folder a run leaves: names of what is in it, lines of its log, files written whole or not at all.

It does not know what a run does.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpmkit.errors import InputError, RunFailed

__all__ = ["RunFolder", "fsync_folder", "write_atomically"]


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
        """Make the folder and try to write in it. Raises InputError when that cannot be done."""
        probe = self.path / ".write-probe"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"ddpmkit")
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"the run folder {self.path.resolve()} cannot be written: {error.strerror or error}.",
                remedies=["--out DIR names another folder"],
            ) from error

    def append(self, event: str, values: Mapping[str, Any]) -> None:
        """Add one line to the log. Raises RunFailed when the disk does not take it."""
        line = json.dumps({"event": event, **values}, ensure_ascii=False, allow_nan=False)
        try:
            with self.metrics.open("a", encoding="utf-8") as log:
                log.write(line + "\n")
        except OSError as error:
            raise RunFailed(f"{self.metrics} cannot be written: {error.strerror or error}.") from error

    def records(self, event: str | None = None) -> Iterator[dict[str, Any]]:
        """The lines of the log, oldest first; an unfinished last line (a run cut off while writing) is passed over."""
        if not self.metrics.exists():
            return
        for line in self.metrics.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                record = json.loads(line)
                if event is None or record["event"] == event:
                    yield record

    def forget_after(self, step: int) -> None:
        """Drop the lines and the samples of steps after `step`: a run that resumes there will make them again."""
        for picture in (self.path / "samples").glob("step-*.png"):
            if picture > self.samples(step):
                picture.unlink()
        if self.metrics.exists():
            kept = [json.dumps(record, ensure_ascii=False) for record in self.records() if record["step"] <= step]
            write_atomically(self.metrics, "".join(line + "\n" for line in kept).encode())

    def sync_log(self) -> None:
        """Have the disk hold every line of the log before something later relies on it."""
        if self.metrics.exists():
            with self.metrics.open("rb") as log:
                os.fsync(log.fileno())


def write_atomically(path: Path, content: bytes) -> Path:
    """Write to a temporary name beside `path`, fsync, rename: the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    fsync_folder(path.parent)
    return path


def fsync_folder(folder: Path) -> None:
    """Have the disk hold the names in `folder`."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
