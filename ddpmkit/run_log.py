"""A log of JSON lines that survives a full disk, a killed process, and damaged lines.

A line is written completely or not at all. Lines that cannot be written wait in memory, in order. A line that cannot be
read does not affect other lines: readers skip it with a warning, and the process that may rewrite the log moves it to
another file. Reading takes constant memory.
"""

import contextlib
import functools
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ddpmkit.atomic_io import atomic_write
from ddpmkit.file_lock import is_at
from ddpmkit.line_spans import LONGEST, Line, Span, copy_span, extend, lines, named
from ddpmkit.regular_file import append_regular, fsync_file, open_regular

__all__ = ["RunLog"]

_log = logging.getLogger(__name__)

Record = dict[str, Any]


class RunLog:
    """A file of records. Several processes may append to it; one may rewrite it."""

    def __init__(self, path: Path, shapes: Mapping[str, type] | None = None) -> None:
        """`path` need not exist. `shapes` are the dataclasses that records must match, by event."""
        self.path = path
        self._shapes = shapes or {}
        # The bytes that `append` writes at the start of such a record.
        self._starts = [(json.dumps({"event": name})[:-1].encode() + b", ", name) for name in self._shapes]
        self._waiting: list[str] = []

    def append(self, event: str, values: Mapping[str, Any]) -> None:
        """Add the line `{"event": event, **values}`. If the disk fails, the line waits, and `sync` raises the error."""
        # ASCII only: many programs end a line at U+2028 too, and half of a surrogate pair cannot be encoded in UTF-8.
        self._waiting.append(json.dumps({"event": event, **values}, allow_nan=False) + "\n")
        try:
            self._write()
        except OSError:
            return

    def sync(self) -> None:
        """Write the waiting lines and flush the file to the disk. Raises OSError."""
        self._write()
        with contextlib.suppress(FileNotFoundError):
            fsync_file(self.path)

    def records(self, event: str | None = None) -> Iterator[Record]:
        """Yield the records in the file, oldest first. Lines that cannot be used are skipped, and a warning names them.

        A last line without its end is a record if it is complete; otherwise a process was killed, or is writing it.
        Raises OSError if the file cannot be read.
        """
        try:
            log = open_regular(self.path, follow_links=False)
        except FileNotFoundError:
            return
        sign = b"" if event is None else json.dumps(event).encode()
        damaged: list[Span] = []
        with log:
            for line in lines(log):
                if line.content is not None and sign not in line.content:
                    continue  # the fastest way to skip records of other events
                record = self._record(line)
                if isinstance(record, str):
                    if line.is_ended:
                        extend(damaged, line, record)
                elif event is None or record["event"] == event:
                    yield record
        if damaged:
            _log.warning("%s: %s cannot be used. All other lines are used.", self.path, named(damaged))

    def keep(self, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Remove every other record, including waiting ones. Lines that cannot be used are moved to `NAME.damaged`.

        The bytes of all other lines stay as they are, and the file is not written if there is nothing to remove. Only
        the process that has locked the run folder may call it. Raises OSError.
        """
        self._waiting = [line for line in self._waiting if wanted(json.loads(line))]
        try:
            log: BufferedReader = BufferedReader(self._open_locked(create=False))
        except FileNotFoundError:
            return
        kept: list[Span] = []
        damaged: list[Span] = []
        is_ended = True
        with log:
            log.seek(0)
            for line in lines(log):
                is_ended = line.is_ended
                record = self._record(line)
                if not isinstance(record, str):
                    if wanted(record):
                        extend(kept, line)
                # A killed process leaves an incomplete last line: its record will be written again.
                elif is_ended:
                    extend(damaged, line, record)
            size = log.tell()
            if sum(span.end - span.start for span in kept) == size:
                return
            if damaged:
                self._save_damaged(log, damaged)
            with atomic_write(self.path) as new:
                for span in kept:
                    copy_span(log, span, new.write)
                if not is_ended and kept and kept[-1].end == size:
                    new.write(b"\n")
                if os.name == "nt":  # Windows replaces no open file
                    log.close()

    def _record(self, line: Line) -> Record | str:
        """Return the record in a line, or why it cannot be used."""
        content = line.content
        if content is None:
            return f"longer than {LONGEST:,} bytes"
        for start, event in self._starts:
            # Nearly every line starts so, and this is twice as fast as the code below.
            if content.startswith(start):
                try:
                    return _with_step({"event": event, **vars(_adapter(self._shapes[event]).validate_json(content))})
                except ValidationError:
                    break
        try:
            record = json.loads(content.decode())
        except UnicodeDecodeError:
            return "not UTF-8"
        except (ValueError, RecursionError):
            return "not JSON" if content.strip() else "empty"
        if not isinstance(record, dict) or not isinstance(record.get("event"), str):
            return "not the record of an event"
        if (shape := self._shapes.get(record["event"])) is not None:
            try:
                record |= vars(_adapter(shape).validate_python(record))
            except ValidationError as error:
                return f"not a record of {record['event']!r}: {'.'.join(map(str, error.errors()[0]['loc']))}"
        return _with_step(record)

    def _save_damaged(self, log: BufferedReader, damaged: Sequence[Span]) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged")
        with append_regular(aside) as file:
            for span in damaged:
                copy_span(log, span, functools.partial(_write_all, file))
            os.fsync(file.fileno())
        _log.warning("%s: %s cannot be used and was moved to %s.", self.path, named(damaged), aside.name)

    def _write(self) -> None:
        """Append the waiting lines. If the disk fails, remove the part that was written."""
        if not self._waiting:
            return
        content = "".join(self._waiting).encode()
        with self._open_locked() as log:
            before = log.seek(0, os.SEEK_END)
            if before:
                log.seek(before - 1)
                if log.read(1) != b"\n":
                    # A killed process left an incomplete line: start a new one.
                    content = b"\n" + content
            try:
                _write_all(log, content)
            except OSError:
                log.truncate(before)
                raise
        self._waiting.clear()

    def _open_locked(self, *, create: bool = True) -> FileIO:
        """Open the log and lock it until it is closed: no other process appends to it or rewrites it until then.

        On a file system without locks it is not protected. Raises OSError.
        """
        from filelock import lock_descriptor  # takes a while to import, and readers lock nothing

        while True:
            log = append_regular(self.path, create=create)
            with contextlib.suppress(OSError):
                lock_descriptor(log.fileno())
            if is_at(log.fileno(), self.path):
                return log
            log.close()  # the process that had the lock replaced this file


def _write_all(file: FileIO, content: bytes) -> None:
    """Write all bytes: one call of an unbuffered file may write only a part."""
    while content:
        content = content[file.write(content) :]


def _with_step(record: Record) -> Record | str:
    """Return the record, or why it cannot be used."""
    step = record.get("step")
    if isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 2**63:
        return record
    return "without a step"


@functools.cache
def _adapter(shape: type) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
