"""Reads the lines of a file in constant memory, with their byte positions, and copies spans of lines unchanged.

A line ends only at the byte `\\n`. In text mode, it would also end at `\\r`, or at U+2028 with `splitlines`.
"""

from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader
from typing import Any, NamedTuple

__all__ = ["LONGEST", "Line", "Span", "copy_span", "extend", "lines", "named"]

LONGEST = 2**24
"""The maximum number of bytes of a line whose content is read."""
_CHUNK = 2**20
_MOST_NAMED = 5


class Line(NamedTuple):
    """One line: its number, counted from 1, and its bytes `start` to `end` in the file."""

    number: int
    start: int
    end: int
    content: bytes | None
    """The line including its `\\n`; None if it is longer than `LONGEST`."""
    is_ended: bool
    """False for a last line without `\\n`."""


class Span(NamedTuple):
    """Consecutive lines, and what is wrong with the first of them."""

    first: int
    last: int
    start: int
    end: int
    why: str


def lines(file: BufferedReader) -> Iterator[Line]:
    """Yield the lines of the file, from its start."""
    number = start = 0
    while part := file.readline(LONGEST):
        content: bytes | None = part
        end = start + len(part)
        while not part.endswith(b"\n") and (more := file.readline(LONGEST)):
            part, content, end = more, None, end + len(more)
        number += 1
        yield Line(number, start, end, content, part.endswith(b"\n"))
        start = end


def extend(spans: list[Span], line: Line, why: str = "") -> None:
    """Add a line that comes after all spans."""
    if spans and spans[-1].end == line.start:
        spans[-1] = spans[-1]._replace(last=line.number, end=line.end)
    else:
        spans.append(Span(line.number, line.number, line.start, line.end, why))


def copy_span(file: BufferedReader, span: Span, write: Callable[[bytes], Any]) -> None:
    """Pass the bytes of a span to `write` in chunks."""
    file.seek(span.start)
    remaining = span.end - span.start
    while remaining and (content := file.read(min(remaining, _CHUNK))):
        write(content)
        remaining -= len(content)


def named(spans: Sequence[Span]) -> str:
    """Return `line 3 (not JSON)`, `lines 3 to 4, 9 (not JSON)`."""
    names = [str(span.first) if span.first == span.last else f"{span.first} to {span.last}" for span in spans]
    more = f" and {len(names) - _MOST_NAMED} more" if names[_MOST_NAMED:] else ""
    one = len(spans) == 1 and spans[0].first == spans[0].last
    return f"{'line' if one else 'lines'} {', '.join(names[:_MOST_NAMED])}{more} ({spans[0].why})"
