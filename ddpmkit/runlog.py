"""A log of JSON lines that survives a full disk and a cut-off process.

Every line is whole or not there; lines that the disk does not take wait in memory and keep their order. It does not
know what the lines say.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ddpmkit.durable import write_atomically

__all__ = ["RunLog"]


class RunLog:
    """One file of lines, written by one process at a time."""

    def __init__(self, path: Path) -> None:
        """The file need not be there yet."""
        self.path = path
        self._waiting: list[str] = []
        self._mended = False

    def append(self, event: str, values: Mapping[str, Any]) -> None:
        """Add one line, `{"event": event, **values}`; `sync` says when the disk does not take it."""
        self._waiting.append(json.dumps({"event": event, **values}, ensure_ascii=False, allow_nan=False) + "\n")
        try:
            self._write()
        except OSError:
            return

    def sync(self) -> None:
        """Have the disk hold every line. Raises OSError when it does not take them."""
        self._write()
        if self.path.exists():
            with self.path.open("rb") as log:
                os.fsync(log.fileno())

    def records(self, event: str | None = None) -> Iterator[dict[str, Any]]:
        """The lines of the file, oldest first, without an unfinished last one of a process cut off while writing."""
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                record = json.loads(line)
                if event is None or record["event"] == event:
                    yield record

    def keep(self, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Drop every other line, waiting ones included."""
        self._waiting = [line for line in self._waiting if wanted(json.loads(line))]
        if self.path.exists():
            kept = [json.dumps(record, ensure_ascii=False) + "\n" for record in self.records() if wanted(record)]
            write_atomically(self.path, "".join(kept).encode())

    def _write(self) -> None:
        """Unbuffered, so that an error is told here; what a full disk took of a line is taken back."""
        if not self._waiting:
            return
        self._mend()
        content = "".join(self._waiting).encode()
        with self.path.open("ab", buffering=0) as log:
            before = log.seek(0, os.SEEK_END)
            try:
                while content:
                    content = content[log.write(content) :]
            except OSError:
                log.truncate(before)
                raise
        self._waiting.clear()

    def _mend(self) -> None:
        """Drop an unfinished last line before the first of ours is joined to it."""
        if not self._mended and self.path.exists():
            whole = self.path.read_bytes().rfind(b"\n") + 1
            if whole < self.path.stat().st_size:
                os.truncate(self.path, whole)
        self._mended = True
