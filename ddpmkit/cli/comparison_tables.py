"""Tables that compare runs and fit any terminal width, without cutting off names or numbers.

If the runs fit as columns, they are columns. Otherwise, runs are rows, in several tables if needed, and the keys that
differ become a list of values, each with the runs that have it.
"""

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["differences", "score_tables"]

Column = tuple[str, Sequence[str]]
"""A title, and one text per run."""

_GAP = 3
"""The space that rich leaves between two columns."""
_INDENT = 2


def differences(names: Sequence[str], differing: Sequence[Column], width: int) -> Iterator["Table | str"]:
    """Yield lines and tables that show, for each key that differs, its value in each run.

    The table has the runs as columns; keys whose values would make it too wide follow as a list.
    """
    heads = ["key", *names]
    rows = [[key, *values] for key, values in differing]
    wide: list[list[str]] = []
    while rows and _natural_width(heads, rows) > width:
        wide.append(rows.pop(rows.index(max(rows, key=lambda row: sum(map(cell_len, row))))))
    if rows:
        yield _table(heads, rows)
    for key, *values in sorted(wide):
        yield key
        yield from _values(names, values, width)
    if wide:
        yield ""


def score_tables(names: Sequence[str], columns: Sequence[Column], width: int) -> Iterator["Table"]:
    """Tables of the scores; a missing score is shown as `-`."""
    columns = [(title, [text or "-" for text in texts]) for title, texts in columns]
    rows = [[title, *texts] for title, texts in columns]
    if _natural_width(["", *names], rows) <= width:
        yield _table(["", *names], rows)
        return
    for group in _groups(columns, width - 2 - max(map(cell_len, ["run", *names]))):
        texts = zip(names, *(texts for _, texts in group), strict=True)
        yield _table(["run", *(title for title, _ in group)], [list(row) for row in texts])


def _values(names: Sequence[str], values: Sequence[str], width: int) -> Iterator[str]:
    """Yield each value with the runs that have it; the most frequent value is last, without the names of its runs."""
    by_value: dict[str, list[str]] = {}
    for name, value in zip(names, values, strict=True):
        by_value.setdefault(value, []).append(name)
    longest = min(max(cell_len(value or "absent") for value in by_value), width // 3)
    for value, runs in sorted(by_value.items(), key=lambda entry: len(entry[1])):
        is_common = len(by_value) > 1 and len(runs) > len(names) / 2 and len(runs) > 2
        listed = f"the other {len(runs)}" if is_common else ", ".join(runs)
        shown, indent = value or "absent", " " * (_INDENT + longest + 2)
        first = f"  {shown:<{longest}}  "
        if cell_len(shown) > longest:
            yield from textwrap.wrap(shown, width, initial_indent="  ", subsequent_indent="  ")
            first = indent
        # Break lines only between names: a name may contain a space.
        yield from _filled(listed.split(", "), first, indent, width)


def _filled(names: Sequence[str], first: str, indent: str, width: int) -> Iterator[str]:
    line = first
    for number, name in enumerate(names):
        text = name if number == len(names) - 1 else f"{name}, "
        if line not in (first, indent) and cell_len(line) + cell_len(text.rstrip()) > width:
            yield line.rstrip()
            line = indent
        line += text
    yield line.rstrip()


def _groups(columns: Sequence[Column], room: int) -> Iterator[Sequence[Column]]:
    """Groups of columns that fit next to the names of the runs, with at least one column each."""
    group: list[Column] = []
    for column in columns:
        if group and sum(_column_width(each) for each in [*group, column]) > room:
            yield group
            group = []
        group.append(column)
    yield group


def _column_width(column: Column) -> int:
    """Return the width of a column whose title may wrap at its spaces."""
    title, texts = column
    return _GAP + max(map(cell_len, [*title.split(), *texts]))


def _natural_width(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    widths = [max(map(cell_len, column)) for column in zip(heads, *rows, strict=True)]
    return sum(widths) + _GAP * (len(widths) - 1) + 2


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, (head, column) in enumerate(zip(heads, zip(*rows, strict=True), strict=True)):
        widest = max(map(cell_len, [*head.split(), *column]), default=0)
        table.add_column(Text(head), min_width=widest, no_wrap=place == 0)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
