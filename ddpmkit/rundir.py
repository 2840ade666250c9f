"""The folder a run leaves: names of what is in it, and who may write there.

It does not know what a run does.
"""

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ddpmkit.durable import write_atomically
from ddpmkit.errors import InputError
from ddpmkit.runlog import RunLog

__all__ = ["RunFolder"]


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

    @property
    def log(self) -> RunLog:
        """The lines of `metrics`."""
        return RunLog(self.metrics)

    @property
    def incidents(self) -> RunLog:
        """What went wrong on the way, and what was done about it; a run that goes on adds to it."""
        return RunLog(self.path / "incidents.jsonl")

    def forget_samples_after(self, step: int) -> None:
        """Drop the grids of later steps: a run that goes on from `step` will draw them again."""
        for picture in (self.path / "samples").glob("step-*.png"):
            if picture > self.samples(step):
                picture.unlink()

    def forget_end(self) -> None:
        """Drop what is made once the last step is done: a run that went on beyond it will make it again."""
        for made in (self.report, *(self.path / "viz").glob("*.png")):
            made.unlink(missing_ok=True)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Have the folder to oneself. Raises InputError, which names the holder, when another process has it.

        The lock is the kernel's: it ends with the process, however that ends.
        """
        lock, holder = FileLock(self.path / ".lock"), self.path / ".holder.json"
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(
                f"{self.path} is being written by {_described(holder)}.",
                remedies=["wait until it is done, or stop it", "--out DIR makes another run"],
            ) from error
        try:
            since = datetime.now(UTC).isoformat(timespec="seconds")
            write_atomically(holder, json.dumps({"pid": os.getpid(), "host": platform.node(), "since": since}).encode())
            yield
            holder.unlink(missing_ok=True)
        finally:
            lock.release()


def _described(holder: Path) -> str:
    try:
        facts = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {facts['pid']} on {facts['host']}, since {facts['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
