"""A CSV file (RFC 4180, but lines end in LF) whose first column is a step, and whose cells a spreadsheet only shows.

It does not know what the other columns say.
"""

import csv
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ddpmkit.plugin import InputError, atomic_write

Cell = str | int | float | bool | None

_FORMULA = re.compile(r"\s*[=+\-@]")
"""Text that begins so is computed by a spreadsheet: https://owasp.org/www-community/attacks/CSV_Injection."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Among them every end of a line: a row is one line, so that one cut short is known as such."""

_ROW = re.compile(rb"\d+,.*\n", re.DOTALL)
_LONGEST = 2**20
"""Bytes of a line."""


class Table:
    """One file, written by one process at a time, row by row."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Nothing is read or written yet."""
        self.path = path
        self._header = _line(columns)

    def keep(self, wanted: Callable[[int], bool]) -> None:
        """Drop the rows of all other steps, and a last one that was cut short; the file is there afterwards.

        Raises InputError for a file that is not such a table, OSError when it cannot be written.
        """
        with atomic_write(self.path) as file:
            file.write(self._header.encode())
            for row in self._rows():
                if wanted(int(row.partition(b",")[0])):
                    file.write(row)

    def append(self, *rows: Sequence[Cell]) -> None:
        """Add rows, step first. Raises OSError."""
        with self.path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write("".join(map(_line, rows)))

    def _rows(self) -> Iterator[bytes]:
        """Whole lines below the header, one at a time: there may be millions."""
        if not os.path.lexists(self.path):
            return
        if self.path.is_symlink() or not self.path.is_file():
            # What is behind a link is someone else's, and a pipe would be waited for.
            raise InputError(f"{self.path} is not a file; it is left as it is.", remedies=["move it away"])
        with self.path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b"")):
                if not line.endswith(b"\n") and len(line) < _LONGEST:
                    return  # cut short
                if line != self._header.encode() if number == 0 else not _ROW.match(line):
                    raise InputError(
                        f"{self.path} was not written by this tracker, or was edited since; it is left as it is.",
                        remedies=["give it another name, and resume the run"],
                    )
                if number:
                    yield line


def _line(cells: Sequence[Cell]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_shown(cell) for cell in cells])
    return line.getvalue()


def _shown(cell: Cell) -> str | int | float | None:
    """Text on one line and with an apostrophe where a spreadsheet would compute it; numbers as they are."""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if not isinstance(cell, str):
        return cell
    text = _CONTROL.sub(" ", cell)
    return f"'{text}" if _FORMULA.match(text) else text
