"""Reads one TOML file into a `Layer`: the values and their positions. Raises RecipeError if it cannot.

`tomllib` finds syntax errors; the most common ones get a hint.
"""

import errno
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, time
from pathlib import Path
from typing import Any

from ddpmkit.recipe.problems import Problem, RecipeError, did_you_mean
from ddpmkit.recipe.toml.positions import Key, Origin, Position, Span, locate
from ddpmkit.regular_file import open_regular

__all__ = ["Layer", "NotToml", "as_toml_data", "overlong_key", "read_file"]

_MAX_DEPTH = 50
_MAX_BYTES = 2**17
_MAX_FILES_LISTED = 12
_TOO_LARGE = "TOML integers have at most 64 bits"
_LONG_NUMBER = re.compile(r"\d[\d_]{4000,}")
_KEY_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_OVERLONG_KEY = re.compile(rf"(?<![\w-])(?:{_KEY_PART}\.[ \t]*+){{{4 * _MAX_DEPTH}}}")
_SYNTAX_ERROR = re.compile(
    r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL
)
_BARE_VALUE = re.compile(r"([A-Za-z_./~][\w./~-]*)\s*(?:#.*)?$")
_DUPLICATE = ("Cannot overwrite", "Cannot declare", "Cannot mutate", "Duplicate")


class NotToml(ValueError):
    """A value that a recipe cannot contain; `key` is the path to it."""

    def __init__(self, message: str, key: Key) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Layer:
    """The values of one source, before they are merged with others."""

    source: str
    """Name of the source in messages."""
    values: dict[str, Any]
    positions: Mapping[Key, Position] = field(default_factory=dict)
    is_from_lock: bool = False
    """Whether the source is the lock of a run, which contains every key."""
    untrusted: bool = False
    """Whether the source is a lock that the user has neither written nor trusted."""

    def origin(self, key: Key) -> Origin:
        """Return where `key` is written in this layer, or the nearest table around it."""
        while key and key not in self.positions:
            key = key[:-1]
        return Origin(self.source, self.positions.get(key), self.is_from_lock, self.untrusted)

    def problem(self, message: str, key: Key = (), *hints: str) -> Problem:
        """Return a problem with the value at `key`."""
        origin = self.origin(key)
        return Problem(message, self.source, origin.position.value if origin.position else None, hints)


def read_file(path: Path, requested_by: Problem | None = None, *, content: bytes | None = None) -> Layer:
    """Read a TOML file, or the `content` that it had.

    Raises RecipeError. If the file cannot be opened and `requested_by` is given, the error points to `requested_by`,
    the place that names the file.
    """
    source = os.path.normpath(path)
    try:
        if content is None:
            with open_regular(path, follow_links=True) as file:
                content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise OSError(errno.EFBIG, f"it is longer than {_MAX_BYTES:,} bytes, the maximum for a recipe")
    except (OSError, ValueError) as error:
        message, hints = _why_unreadable(path, error)
        problem = Problem(message, source, None, hints)
        if requested_by is not None:
            problem = replace(requested_by, message=f"{requested_by.message} {source}: {message}", hints=hints)
        raise RecipeError([problem]) from error
    text = _decoded(content, source)
    if overlong := overlong_key(text):
        raise RecipeError([Problem("nested too deeply", source, _span(text, overlong))])
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError([_syntax_problem(str(error), text, source)]) from error
    except RecursionError as error:
        raise RecipeError([Problem("nested too deeply", source)]) from error
    except ValueError as error:  # Python's own limit on the digits of an integer
        number = _LONG_NUMBER.search(text)
        raise RecipeError([Problem(_TOO_LARGE, source, _span(text, number) if number else None)]) from error
    positions = locate(text)
    try:
        return Layer(source, as_toml_data(data), positions)
    except NotToml as error:
        raise RecipeError([Layer(source, {}, positions).problem(str(error), error.key)]) from error


def overlong_key(text: str) -> re.Match[str] | None:
    """Return a dotted key in `text` with far too many parts, for which tomllib would take quadratic time."""
    return _OVERLONG_KEY.search(text)


def as_toml_data(value: Any, key: Key = ()) -> Any:
    """Return a copy of `value` (at `key`) that has only TOML types; dates become text. Raises NotToml for others."""
    if len(key) > _MAX_DEPTH:
        raise NotToml("nested too deeply", key)
    match value:
        case Mapping():
            if others := [name for name in value if not isinstance(name, str)]:
                raise NotToml(f"the key {others[0]!r} is not a string", key)
            return {as_toml_data(name, key): as_toml_data(entry, (*key, name)) for name, entry in value.items()}
        case list() | tuple():
            return [as_toml_data(entry, (*key, index)) for index, entry in enumerate(value)]
        case os.PathLike():
            return as_toml_data(os.fspath(value), key)
        case str() if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise NotToml(f"{value!r} is not valid text", key)
        case int() if not -(2**63) <= value < 2**63:
            raise NotToml(_TOO_LARGE, key)
        case date() | time():
            return value.isoformat()
        case bool():
            return value
        # Subclasses, such as enumerations, become plain values.
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
    raise NotToml(f"{value!r} ({type(value).__name__}) cannot be written in TOML", key)


def _decoded(content: bytes, source: str) -> str:
    """Return the text without a byte order mark, with `\\n` as line ends."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RecipeError([Problem("this file is UTF-16; a recipe must be UTF-8", source)])
    if b"\0" in content:
        raise RecipeError([Problem("this is not a text file; a recipe is TOML, in UTF-8", source)])
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        start = content.rfind(b"\n", 0, error.start) + 1
        text = content[start:].split(b"\n", 1)[0].decode(errors="replace").rstrip("\r")
        span = Span(line, len(content[start : error.start].decode("utf-8-sig")) + 1, 1, text)
        raise RecipeError([Problem(f"byte 0x{content[error.start]:02x} is not UTF-8", source, span)]) from error


def _span(text: str, found: re.Match[str]) -> Span:
    """Return the position of a match within one line."""
    start = text.rfind("\n", 0, found.start()) + 1
    line = text[start:].split("\n", 1)[0]
    return Span(text.count("\n", 0, start) + 1, found.start() - start + 1, found.end() - found.start(), line)


def _syntax_problem(error: str, text: str, source: str) -> Problem:
    """Return the problem for `error`, the message of tomllib about `text`."""
    found = _SYNTAX_ERROR.fullmatch(error)
    what = found["what"] if found else error
    lowered = what[:1].lower() + what[1:]
    if found is None or found["line"] is None:
        lines = text.rstrip("\n").split("\n")
        span = Span(len(lines), len(lines[-1]) + 1, 1, lines[-1])
        return Problem(f"the file ends too early: {lowered}", source, span)
    line_number, column = int(found["line"]), int(found["column"])
    line = text.split("\n")[line_number - 1]
    if what.startswith(_DUPLICATE):
        span = Span(line_number, len(line) - len(line.lstrip()) + 1, max(1, len(line.strip())), line)
        return Problem("this key or table is already defined", source, span, ("keep one of the two",))
    word = _BARE_VALUE.match(line, column - 1) if what == "Invalid value" else None
    width, hints = (len(word[1]), (_correction(word[1]),)) if word else (1, ())
    return Problem(f"not valid TOML: {lowered}", source, Span(line_number, column, width, line), hints)


def _correction(word: str) -> str:
    """Return what to write instead of a bare word."""
    if word.lower() in ("true", "false"):
        return f"write {word.lower()}"
    if word.lower() in ("none", "null", "nil"):
        return "TOML has no such value: leave the key out"
    return f'a string needs quotes: "{word}"'


def _why_unreadable(path: Path, error: OSError | ValueError) -> tuple[str, tuple[str, ...]]:
    """Return why the file cannot be read, and which files could be meant."""
    if isinstance(error, ValueError):
        return "a file cannot have this name", ()
    if isinstance(error, IsADirectoryError):
        recipes = [str(path / name) for name in _recipes_in(path)]
        return "this is a folder, not a recipe", (f"recipes in it: {_first(recipes)}",) if recipes else ()
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"this file cannot be read: {error.strerror or error}", ()
    return "there is no such file", tuple(_near_names(path))


def _near_names(path: Path) -> list[str]:
    folder = path.parent
    if not folder.is_dir():
        return [f"the folder {folder.absolute()} does not exist either"]
    names = _recipes_in(folder)
    # Compare without ".toml": the suffix makes short names look similar.
    close = did_you_mean(path.name.removesuffix(".toml"), [name.removesuffix(".toml") for name in names])
    suggestion = [f"did you mean {folder / close}.toml?"] if close else []
    if not names:
        return [f"{folder.absolute()} contains no .toml file"]
    return [*suggestion, f"recipes in {folder.absolute()}: {_first(names)}"]


def _recipes_in(folder: Path) -> list[str]:
    """Return the names of the TOML files in a folder that may be recipes."""
    return sorted(entry.name for entry in folder.glob("*.toml") if entry.name != "pyproject.toml")


def _first(names: Sequence[str]) -> str:
    left = len(names) - _MAX_FILES_LISTED
    more = f" and {left} more" if left > 0 else ""
    return f"{', '.join(names[:_MAX_FILES_LISTED])}{more}"
