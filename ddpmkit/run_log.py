"""A log of JSON lines that survives a full disk, a killed process, and damage by others.

Every line that is written is whole or not there; lines that the disk does not take wait in memory and keep their order.
A line that cannot be read costs no other line: readers skip it and name it, and the one process that may rewrite the
log sets it aside. Reading takes constant memory.
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

from ddpmkit.atomic_io import append_regular, fsync_file, open_regular, written_atomically
from ddpmkit.line_spans import LONGEST, Line, Span, copy_span, extend, lines, named

__all__ = ["RunLog"]

_log = logging.getLogger(__name__)

Record = dict[str, Any]


class RunLog:
    """One file of records, written by one process at a time."""

    def __init__(self, path: Path, shapes: Mapping[str, type] | None = None) -> None:
        """The file may be absent. `shapes` are the dataclasses that records of some events must match, by event."""
        self.path = path
        self._shapes = shapes or {}
        # What `append` writes at the start of such a record.
        self._starts = [(json.dumps({"event": name})[:-1].encode() + b", ", name) for name in self._shapes]
        self._waiting: list[str] = []

    def append(self, event: str, values: Mapping[str, Any]) -> None:
        """Add one line, `{"event": event, **values}`; `sync` says when the disk does not take it."""
        # ASCII alone: many programs end a line at U+2028 too, and half of a surrogate pair has no form in UTF-8.
        self._waiting.append(json.dumps({"event": event, **values}, allow_nan=False) + "\n")
        try:
            self._write()
        except OSError:
            return

    def sync(self) -> None:
        """Have the disk hold every line. Raises OSError when it does not take them."""
        self._write()
        with contextlib.suppress(FileNotFoundError):
            fsync_file(self.path)

    def records(self, event: str | None = None) -> Iterator[Record]:
        """The records of the file, oldest first; lines that cannot be used are skipped, and a warning names them.

        A last line without its end counts if it is whole; otherwise a process was killed, or is writing it. Raises
        OSError when the file cannot be read.
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
                    continue  # the cheapest way past a million records of another event
                record = self._record(line)
                if isinstance(record, str):
                    if line.is_ended:
                        extend(damaged, line, record)
                elif event is None or record["event"] == event:
                    yield record
        if damaged:
            _log.warning("%s: %s cannot be used. Every other line is.", self.path, named(damaged))

    def keep(self, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Drop every other record, waiting ones included; lines that cannot be used are moved to a file beside the log.

        The lines that stay are not changed by a byte, and a log with nothing to drop is not written. Only the process
        that holds the folder may call it. Raises OSError.
        """
        self._waiting = [line for line in self._waiting if wanted(json.loads(line))]
        try:
            log: BufferedReader = BufferedReader(self._opened(create=False))
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
                # Half a line at the end is what a killed process leaves: its record is made again.
                elif is_ended:
                    extend(damaged, line, record)
            size = log.tell()
            if sum(span.end - span.start for span in kept) == size:
                return
            if damaged:
                self._set_aside(log, damaged)
            with written_atomically(self.path) as new:
                for span in kept:
                    copy_span(log, span, new.write)
                if not is_ended and kept and kept[-1].end == size:
                    new.write(b"\n")
                if os.name == "nt":  # Windows replaces no open file
                    log.close()

    def _record(self, line: Line) -> Record | str:
        """What a line says, or why it cannot be used."""
        content = line.content
        if content is None:
            return f"longer than {LONGEST:,} bytes"
        for start, event in self._starts:
            # Nearly every line is such a one, and this is twice as fast as what follows.
            if content.startswith(start):
                try:
                    return _at_a_step({"event": event, **vars(_adapter(self._shapes[event]).validate_json(content))})
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
        return _at_a_step(record)

    def _set_aside(self, log: BufferedReader, damaged: Sequence[Span]) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged")
        with append_regular(aside) as file:
            for span in damaged:
                copy_span(log, span, functools.partial(_write_all, file))
            os.fsync(file.fileno())
        _log.warning("%s: %s cannot be used, and is now in %s.", self.path, named(damaged), aside.name)

    def _write(self) -> None:
        """What a full disk took of a line is taken back."""
        if not self._waiting:
            return
        content = "".join(self._waiting).encode()
        with self._opened() as log:
            before = log.seek(0, os.SEEK_END)
            if before:
                log.seek(before - 1)
                if log.read(1) != b"\n":
                    # Half a line of a process that was killed: ours begins on a line of its own.
                    content = b"\n" + content
            try:
                _write_all(log, content)
            except OSError:
                log.truncate(before)
                raise
        self._waiting.clear()

    def _opened(self, *, create: bool = True) -> FileIO:
        """The log, locked until it is closed: no other process appends to it or rewrites it until then.

        A file system without locks gives no such protection. Raises OSError.
        """
        from filelock import lock_descriptor  # takes a while to import, and readers lock nothing

        while True:
            log = append_regular(self.path, create=create)
            with contextlib.ExitStack() as closing:
                closing.callback(log.close)
                with contextlib.suppress(OSError):
                    lock_descriptor(log.fileno())
                with contextlib.suppress(FileNotFoundError):
                    # The process that had it locked may have replaced it by a new file.
                    if os.path.samestat(os.fstat(log.fileno()), self.path.stat()):
                        closing.pop_all()
                        return log


def _write_all(file: FileIO, content: bytes) -> None:
    """An unbuffered file may take a part of what it is given."""
    while content:
        content = content[file.write(content) :]


def _at_a_step(record: Record) -> Record | str:
    """The record, if it is of a step."""
    step = record.get("step")
    if isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 2**63:
        return record
    return "without a step"


@functools.cache
def _adapter(shape: type) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
