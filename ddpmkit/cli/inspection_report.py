"""Formats the inspection of a dataset as lines."""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from rich.text import Text

from ddpmkit.contracts import Inspection
from ddpmkit.plural import counted

__all__ = ["report_lines"]

_NAMED = 20
"""The maximum number of groups of equal files that are listed; unusable files are all listed."""


def report_lines(found: Inspection) -> Iterator[Text]:
    """Yield the number of images by class and split, then unusable files, then duplicates and notes."""
    yield from _table(found.counts)
    yield Text()
    if found.bad:
        yield _marked("✗", "bold red", f"{counted(len(found.bad), 'file')} cannot be used:")
        yield from map(Text, _two_columns([(_printable(path), why) for path, why in found.bad.items()]))
    else:
        yield _marked("✓", "green", "every image can be read")
    if found.alike:
        again = sum(len(group) - 1 for group in found.alike)
        verb = "repeats" if again == 1 else "repeat"
        yield _marked("-", "yellow", f"{counted(again, 'file')} {verb} the content of another:")
        for first, *rest in found.alike[:_NAMED]:
            yield Text(f"    {' = '.join(map(_printable, (first, *rest)))}")
        if len(found.alike) > _NAMED:
            yield Text(f"    ... and {len(found.alike) - _NAMED} more")
    for note in found.notes:
        yield _marked("-", "yellow", note)


def _table(counts: Mapping[str, Mapping[str, int]]) -> Iterator[Text]:
    """Classes as rows, splits as columns, and a total if there are several classes."""
    classes = list(dict.fromkeys(chain.from_iterable(counts.values())))
    rows = [(name, [counts[split].get(name, 0) for split in counts]) for name in classes]
    if len(rows) > 1:
        rows.append(("total", [sum(column) for column in zip(*(numbers for _, numbers in rows), strict=True)]))
    first = max(len(name) for name, _ in [("", []), *rows])
    widths = [
        max(len(split), *(len(f"{numbers[place]:,}") for _, numbers in rows)) for place, split in enumerate(counts)
    ]

    def line(name: str, cells: list[str]) -> str:
        return "  ".join(
            [f"  {name:<{first}}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))]
        )

    yield Text(line("", list(counts)), style="bold")
    for name, numbers in rows:
        yield Text(line(name, [f"{number:,}" for number in numbers]))


def _two_columns(pairs: list[tuple[str, str]]) -> Iterator[str]:
    width = max(len(left) for left, _ in pairs)
    return (f"    {left:<{width}}  {right}" for left, right in pairs)


def _marked(mark: str, style: str, text: str) -> Text:
    return Text.assemble((mark, style), " ", text)


def _printable(path: Path) -> str:
    """Return the path, escaped if a terminal cannot show it."""
    text = str(path)
    return text if text.isprintable() else ascii(text)
