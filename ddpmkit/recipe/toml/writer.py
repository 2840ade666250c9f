"""Writes plain data as TOML text, one line for each key."""

import datetime
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ddpmkit.recipe.toml.positions import Key

__all__ = ["TomlLine", "toml_key", "toml_lines", "toml_text", "toml_value"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class TomlLine(NamedTuple):
    """A line of TOML, and the key that it sets (None for a header or an empty line)."""

    text: str
    key: Key | None = None


def toml_text(data: Mapping[str, Any]) -> str:
    """Return the whole document."""
    return "".join(f"{line.text}\n" for line in toml_lines(data))


def toml_lines(data: Mapping[str, Any]) -> Iterator[TomlLine]:
    """Plain keys first, then `[table]` and `[[array of tables]]`; deeper tables are written inline."""
    tables: list[tuple[str, Key, Mapping[str, Any]]] = []
    for name, value in data.items():
        if isinstance(value, Mapping):
            tables.append((f"[{toml_key(name)}]", (name,), value))
        elif isinstance(value, list | tuple) and value and all(isinstance(entry, Mapping) for entry in value):
            tables += [(f"[[{toml_key(name)}]]", (name, index), entry) for index, entry in enumerate(value)]
        else:
            yield TomlLine(f"{toml_key(name)} = {toml_value(value)}", (name,))
    for header, key, table in tables:
        yield TomlLine("")
        yield TomlLine(header)
        for name, value in table.items():
            yield TomlLine(f"{toml_key(name)} = {toml_value(value)}", (*key, name))


def toml_key(name: str) -> str:
    """Return a key as TOML, quoted if necessary."""
    return name if _BARE_KEY.fullmatch(name) else _string(name)


def toml_value(value: Any) -> str:
    """Return a value as TOML, on one line. Raises TypeError if TOML has no form for it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:_}" if abs(value) >= 10_000 else str(value)
        case float():
            return repr(value)
        case str():
            return _string(value)
        case datetime.date() | datetime.time():
            return value.isoformat()
        case list() | tuple():
            return f"[{', '.join(toml_value(entry) for entry in value)}]"
        case Mapping():
            pairs = ", ".join(f"{toml_key(name)} = {toml_value(entry)}" for name, entry in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
    raise TypeError(f"{value!r} cannot be written in TOML")


def _string(value: str) -> str:
    """Escape as JSON, which TOML accepts, and also every other unprintable character."""
    escaped = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escape(char) for char in escaped)


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 2**16 else f"\\U{ord(char):08x}"
