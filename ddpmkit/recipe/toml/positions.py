"""The position of every key and value in a TOML text.

`tomllib` returns values without positions, so the text is parsed a second time, by tree-sitter.
"""

import tomllib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

__all__ = ["Key", "Origin", "Position", "Span", "dotted", "locate"]

Key = tuple[str | int, ...]
"""The path to a value: `("train", "steps")`, `("metric", 0, "every")`."""

_TOML = Language(tree_sitter_toml.language())


class Span(NamedTuple):
    """A part of one line. Lines and columns count from 1, columns in characters."""

    line: int
    column: int
    width: int
    text: str
    """The whole line."""


class Position(NamedTuple):
    """Where a key and its value are. For a table, both spans are its header. For an array entry, both are the entry."""

    key: Span
    value: Span


@dataclass(frozen=True)
class Origin:
    """Where a value comes from: a position in a file, `--set ...`, or the data of a caller."""

    source: str
    position: Position | None = None
    is_from_lock: bool = False
    """Whether it comes from the lock of a run, which contains every key."""
    untrusted: bool = False
    """Whether it comes from a lock that the user has neither written nor trusted."""

    def __str__(self) -> str:
        """`recipes/mine.toml:14`."""
        return f"{self.source}:{self.position.key.line}" if self.position else self.source


def dotted(key: Key) -> str:
    """Return `metric.0.every` for `("metric", 0, "every")`."""
    return ".".join(map(str, key))


def locate(text: str) -> dict[Key, Position]:
    """Return the position of every table, key and array entry of a valid TOML text."""
    return _Locator(text.split("\n")).locate(Parser(_TOML).parse(text.encode()).root_node)


@dataclass
class _Locator:
    lines: list[str]
    positions: dict[Key, Position] = field(default_factory=dict)
    lengths: dict[Key, int] = field(default_factory=dict)
    """Number of entries so far in each array of tables."""
    starts: dict[int, Sequence[int]] = field(default_factory=dict)
    """For each line, the byte at which each of its characters starts."""

    def locate(self, document: Node) -> dict[Key, Position]:
        for node in document.named_children:
            if node.type == "pair":
                self._pair((), node)
            elif node.type in ("table", "table_array_element"):
                self._table(node)
        return self.positions

    def _table(self, node: Node) -> None:
        header, *pairs = (child for child in node.named_children if child.type != "comment")
        *parents, (name, last) = _parts(header)
        key: Key = ()
        for parent, part in parents:
            key = self._entry((*key, parent))
            self.positions.setdefault(key, Position(self._span(part), self._span(part)))
        key = (*key, name)
        if node.type == "table_array_element":
            self.lengths[key] = self.lengths.get(key, 0) + 1
            self.positions.setdefault(key, Position(self._span(last), self._span(last)))
        key = self._entry(key)
        self.positions[key] = Position(self._span(last), self._span(last))
        for pair in pairs:
            if pair.type == "pair":
                self._pair(key, pair)

    def _pair(self, table: Key, node: Node) -> None:
        name_node, value = (child for child in node.named_children if child.type != "comment")
        key = table
        for name, part in _parts(name_node):
            key = (*key, name)
            self.positions.setdefault(key, Position(self._span(part), self._span(value)))
        self._value(key, value)

    def _value(self, key: Key, node: Node) -> None:
        if node.type == "array":
            for index, entry in enumerate(child for child in node.named_children if child.type != "comment"):
                self.positions[(*key, index)] = Position(self._span(entry), self._span(entry))
                self._value((*key, index), entry)
        elif node.type == "inline_table":
            for pair in node.named_children:
                self._pair(key, pair)

    def _entry(self, key: Key) -> Key:
        """Return `key`, or the key of the last table if it is an array of tables."""
        return (*key, self.lengths[key] - 1) if key in self.lengths else key

    def _span(self, node: Node) -> Span:
        """tree-sitter counts bytes, from 0. A value of several lines is marked on its first line."""
        (row, start), (end_row, end) = node.start_point, node.end_point
        line = self.lines[row]
        if row not in self.starts:
            sizes = (len(char.encode()) for char in line)
            self.starts[row] = range(len(line) + 1) if line.isascii() else [0, *accumulate(sizes)]
        column = bisect_left(self.starts[row], start)
        last = bisect_left(self.starts[row], end) if end_row == row else len(line)
        return Span(row + 1, column + 1, max(1, last - column), line)


def _parts(node: Node) -> Iterator[tuple[str, Node]]:
    """Yield the unquoted parts of a key, which may be dotted, with their nodes."""
    if node.type == "dotted_key":
        for child in node.named_children:
            yield from _parts(child)
    else:
        text = (node.text or b"").decode()
        yield next(iter(tomllib.loads(f"{text} = 0"))), node
