"""A CSV file (RFC 4180, but lines end in LF) whose first column is a step, and whose text is never a formula."""

import csv
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ddpmkit.plugin import InputError, atomic_write

Cell = str | int | float | bool | None

_FORMULA = re.compile(r"\s*[=+\-@]")
"""A spreadsheet evaluates text that starts like this: https://owasp.org/www-community/attacks/CSV_Injection."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Control characters, including every line end: a row is one line, so an incomplete row can be recognized."""

_ROW = re.compile(rb"\d+,.*\n", re.DOTALL)
_LONGEST = 2**20
"""The maximum number of bytes of a line."""


class Table:
    """A CSV file that one process at a time writes row by row."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Does not read or write the file."""
        self.path = path
        self._header = _line(columns)

    def keep(self, wanted: Callable[[int], bool]) -> None:
        """Drop the rows of all other steps, and an incomplete last row; create the file if it does not exist.

        Raises InputError if the file is not such a table, OSError if it cannot be written.
        """
        with atomic_write(self.path) as file:
            file.write(self._header.encode())
            for row in self._rows():
                if wanted(int(row.partition(b",")[0])):
                    file.write(row)

    def append(self, *rows: Sequence[Cell]) -> None:
        """Append rows, each starting with its step. Raises OSError."""
        with self.path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write("".join(map(_line, rows)))

    def _rows(self) -> Iterator[bytes]:
        """Yield the complete lines below the header, one at a time: there may be millions."""
        if not os.path.lexists(self.path):
            return
        if self.path.is_symlink() or not self.path.is_file():
            # A link may lead to a file of another program, and reading a pipe would block.
            raise InputError(f"{self.path} is not a file; it was not changed.", remedies=["move it elsewhere"])
        with self.path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b"")):
                if not line.endswith(b"\n") and len(line) < _LONGEST:
                    return  # incomplete
                if line != self._header.encode() if number == 0 else not _ROW.match(line):
                    raise InputError(
                        f"{self.path} was not written by this tracker, or was edited; it was not changed.",
                        remedies=["rename it and resume the run"],
                    )
                if number:
                    yield line


def _line(cells: Sequence[Cell]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_shown(cell) for cell in cells])
    return line.getvalue()


def _shown(cell: Cell) -> str | int | float | None:
    """Text on one line, with an apostrophe if a spreadsheet would evaluate it; numbers unchanged."""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if not isinstance(cell, str):
        return cell
    text = _CONTROL.sub(" ", cell)
    return f"'{text}" if _FORMULA.match(text) else text
