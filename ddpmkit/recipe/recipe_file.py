"""One recipe file as values with their places, or a clear answer why it cannot be read.

It does not know what the values mean.
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
from ddpmkit.recipe.toml_errors import syntax_problem
from ddpmkit.recipe.toml_positions import Key, Origin, Position, Span, locate
from ddpmkit.regular_file import open_regular

__all__ = ["Layer", "NotToml", "as_toml_data", "endless_key", "read_file"]

_DEEPEST = 50
_LONGEST = 2**17
_TOO_LARGE = "a whole number of TOML has at most 64 bits"
_LONG_NUMBER = re.compile(r"\d[\d_]{4000,}")
_KEY_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_ENDLESS_KEY = re.compile(rf"(?<![\w-])(?:{_KEY_PART}\.[ \t]*+){{{4 * _DEEPEST}}}")


class NotToml(ValueError):
    """A value that TOML cannot hold, or that no recipe holds; `key` leads to it."""

    def __init__(self, message: str, key: Key) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Layer:
    """The values of one source, before they meet others."""

    source: str
    """As it is shown to people."""
    values: dict[str, Any]
    positions: Mapping[Key, Position] = field(default_factory=dict)
    of_lock: bool = False
    foreign: bool = False
    """Both as in `Origin`."""

    def origin(self, key: Key) -> Origin:
        """Where `key` is written in this layer; the nearest table around it when it is not written itself."""
        while key and key not in self.positions:
            key = key[:-1]
        return Origin(self.source, self.positions.get(key), self.of_lock, self.foreign)

    def problem(self, message: str, key: Key = (), *hints: str) -> Problem:
        """A problem with the value at `key`."""
        origin = self.origin(key)
        return Problem(message, self.source, origin.position.value if origin.position else None, hints)


def read_file(path: Path, blame: Problem | None = None, *, content: bytes | None = None) -> Layer:
    """The values of a TOML file, or of the `content` that it had.

    Raises RecipeError, at `blame`'s place where another file asked for this one.
    """
    source = os.path.normpath(path)
    try:
        if content is None:
            with open_regular(path, follow_links=True) as file:
                content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise OSError(errno.EFBIG, f"it is longer than {_LONGEST:,} bytes, as no recipe is")
    except (OSError, ValueError) as error:
        message, hints = _why_unreadable(path, error)
        problem = Problem(message, source, None, hints)
        if blame is not None:
            problem = replace(blame, message=f"{blame.message} {source}: {message}", hints=hints)
        raise RecipeError([problem]) from error
    text = _decoded(content, source)
    if endless := endless_key(text):
        raise RecipeError([Problem("nested too deeply", source, _span(text, endless))])
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError([syntax_problem(str(error), text, source)]) from error
    except RecursionError as error:
        raise RecipeError([Problem("nested too deeply", source)]) from error
    except ValueError as error:  # Python's own limit, of digits
        number = _LONG_NUMBER.search(text)
        raise RecipeError([Problem(_TOO_LARGE, source, _span(text, number) if number else None)]) from error
    positions = locate(text)
    try:
        return Layer(source, as_toml_data(data), positions)
    except NotToml as error:
        raise RecipeError([Layer(source, {}, positions).problem(str(error), error.key)]) from error


def endless_key(text: str) -> re.Match[str] | None:
    """A dotted key in `text` that is far too long, which must not reach tomllib: that takes quadratic time for it."""
    return _ENDLESS_KEY.search(text)


def as_toml_data(value: Any, key: Key = ()) -> Any:
    """A copy made of what TOML can hold, dates as text. Raises NotToml for anything else. `key` leads to `value`."""
    if len(key) > _DEEPEST:
        raise NotToml("nested too deeply", key)
    match value:
        case Mapping():
            if strange := [name for name in value if not isinstance(name, str)]:
                raise NotToml(f"the key {strange[0]!r} is no string", key)
            return {as_toml_data(name, key): as_toml_data(entry, (*key, name)) for name, entry in value.items()}
        case list() | tuple():
            return [as_toml_data(entry, (*key, index)) for index, entry in enumerate(value)]
        case os.PathLike():
            return as_toml_data(os.fspath(value), key)
        case str() if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise NotToml(f"{value!r} is no valid text", key)
        case int() if not -(2**63) <= value < 2**63:
            raise NotToml(_TOO_LARGE, key)
        case date() | time():
            return value.isoformat()
        case bool():
            return value
        # Of subclasses, such as enumerations, the plain value.
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
    raise NotToml(f"{value!r} ({type(value).__name__}) has no form in TOML", key)


def _decoded(content: bytes, source: str) -> str:
    """The text with plain line ends, without the mark that some editors put first."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RecipeError([Problem("this file is UTF-16; a recipe must be UTF-8", source)])
    if b"\0" in content:
        raise RecipeError([Problem("this is no text file; a recipe is TOML, in UTF-8", source)])
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        start = content.rfind(b"\n", 0, error.start) + 1
        text = content[start:].split(b"\n", 1)[0].decode(errors="replace").rstrip("\r")
        span = Span(line, len(content[start : error.start].decode("utf-8-sig")) + 1, 1, text)
        raise RecipeError([Problem(f"byte 0x{content[error.start]:02x} is no UTF-8", source, span)]) from error


def _span(text: str, found: re.Match[str]) -> Span:
    """Where something that stands on one line was found."""
    start = text.rfind("\n", 0, found.start()) + 1
    line = text[start:].split("\n", 1)[0]
    return Span(text.count("\n", 0, start) + 1, found.start() - start + 1, found.end() - found.start(), line)


def _why_unreadable(path: Path, error: OSError | ValueError) -> tuple[str, tuple[str, ...]]:
    """What is wrong, and what to read instead."""
    if isinstance(error, ValueError):
        return "this cannot be the name of a file", ()
    if isinstance(error, IsADirectoryError):
        recipes = [str(path / name) for name in _recipes_in(path)]
        return "this is a folder, not a recipe", (f"recipes in it: {_first(recipes)}",) if recipes else ()
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"this file cannot be read: {error.strerror or error}", ()
    return "there is no such file", tuple(_near_names(path))


def _near_names(path: Path) -> list[str]:
    folder = path.parent
    if not folder.is_dir():
        return [f"there is no folder {folder.absolute()} either"]
    names = _recipes_in(folder)
    # Without the ending: it alone makes any two short names alike.
    close = did_you_mean(path.name.removesuffix(".toml"), [name.removesuffix(".toml") for name in names])
    suggestion = [f"did you mean {folder / close}.toml?"] if close else []
    if not names:
        return [f"looked in {folder.absolute()}, which holds no .toml file"]
    return [*suggestion, f"recipes in {folder.absolute()}: {_first(names)}"]


def _recipes_in(folder: Path) -> list[str]:
    """The names of the TOML files in a folder that may be recipes."""
    return sorted(entry.name for entry in folder.glob("*.toml") if entry.name != "pyproject.toml")


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"{', '.join(names[:12])}{more}"
