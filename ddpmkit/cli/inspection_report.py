"""What a look at all files of a dataset found, in lines.

It does not know which dataset it was.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from rich.text import Text

from ddpmkit.contracts import Inspection
from ddpmkit.plural import counted

__all__ = ["report_lines"]

_NAMED = 20
"""Groups of equal files that are named; of bad files, all are."""


def report_lines(found: Inspection) -> Iterator[Text]:
    """Pictures by class and split, then what is wrong, then what may be."""
    yield from _table(found.counts)
    yield Text()
    if found.bad:
        yield _marked("✗", "bold red", f"{counted(len(found.bad), 'file')} cannot be used:")
        yield from map(Text, _two_columns([(_printable(path), why) for path, why in found.bad.items()]))
    else:
        yield _marked("✓", "green", "every picture is whole")
    if found.alike:
        again = sum(len(group) - 1 for group in found.alike)
        verb = "repeats" if again == 1 else "repeat"
        yield _marked("-", "yellow", f"{counted(again, 'file')} {verb} the content of another:")
        for first, *rest in found.alike[:_NAMED]:
            yield Text(f"    {' = '.join(map(_printable, (first, *rest)))}")
        if len(found.alike) > _NAMED:
            yield Text(f"    ... and {len(found.alike) - _NAMED} more like these")
    for note in found.notes:
        yield _marked("-", "yellow", note)


def _table(counts: Mapping[str, Mapping[str, int]]) -> Iterator[Text]:
    """Classes down, splits across, sums below where there is something to sum."""
    classes = list(dict.fromkeys(chain.from_iterable(counts.values())))
    rows = [(name, [counts[split].get(name, 0) for split in counts]) for name in classes]
    if len(rows) > 1:
        rows.append(("together", [sum(column) for column in zip(*(numbers for _, numbers in rows), strict=True)]))
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
    """As it is, or escaped where a terminal would be disturbed or has no such letter."""
    text = str(path)
    return text if text.isprintable() else ascii(text)
