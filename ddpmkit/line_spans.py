"""Lines of a file by their place in it: read in constant memory, kept in spans, copied unchanged.

A line ends at the byte `\\n` and nowhere else: a file that is read as text would also end it at U+2028 or `\\r`.
"""

from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader
from typing import Any, NamedTuple

__all__ = ["LONGEST", "Line", "Span", "copy_span", "extend", "lines", "named"]

LONGEST = 2**24
"""Bytes of a line that is read."""
_CHUNK = 2**20
_MOST_NAMED = 5


class Line(NamedTuple):
    """One line, counted from 1, and its bytes `start` to `end` in the file."""

    number: int
    start: int
    end: int
    content: bytes | None
    """With its end; None for a line that is longer than `LONGEST`."""
    is_ended: bool
    """False for a last line without its `\\n`."""


class Span(NamedTuple):
    """Neighbouring lines, and what is wrong with the first."""

    first: int
    last: int
    start: int
    end: int
    why: str


def lines(file: BufferedReader) -> Iterator[Line]:
    """The lines from the start of the file on."""
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
    """Add a line that lies behind all of the spans."""
    if spans and spans[-1].end == line.start:
        spans[-1] = spans[-1]._replace(last=line.number, end=line.end)
    else:
        spans.append(Span(line.number, line.number, line.start, line.end, why))


def copy_span(file: BufferedReader, span: Span, write: Callable[[bytes], Any]) -> None:
    """Pass the bytes of a span to `write`, piece by piece."""
    file.seek(span.start)
    left = span.end - span.start
    while left and (content := file.read(min(left, _CHUNK))):
        write(content)
        left -= len(content)


def named(spans: Sequence[Span]) -> str:
    """`line 3 (not JSON)`, `lines 3 to 4, 9 (not JSON)`."""
    names = [str(span.first) if span.first == span.last else f"{span.first} to {span.last}" for span in spans]
    more = f" and {len(names) - _MOST_NAMED} more" if names[_MOST_NAMED:] else ""
    one = len(spans) == 1 and spans[0].first == spans[0].last
    return f"{'line' if one else 'lines'} {', '.join(names[:_MOST_NAMED])}{more} ({spans[0].why})"
