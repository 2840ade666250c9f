"""`--set KEY=VALUE`: one value for one key.

It does not know what the keys mean.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ddpmkit.recipe.problems import Problem, RecipeError, listed
from ddpmkit.recipe.recipe_file import as_toml_data, endless_key
from ddpmkit.recipe.toml_positions import Origin

__all__ = ["Override", "check_used", "parse_override"]

_OPENING = re.compile(r"""["'\[{]""")


class Override(NamedTuple):
    """A key as written, dots resolved, and its value."""

    key: tuple[str, ...]
    value: Any
    source: str
    origin: Origin | None = None
    """Who wrote it, if that is not the command line."""


def parse_override(text: str) -> Override | Problem:
    """`train.steps=200`, `metric.0.every=100`, `schedule.use=linear`, `'data.classes=["cat"]'`.

    The value is TOML; what is no TOML and opens no quote or bracket is taken as the text it is.
    """
    source = f"--set {text}"
    if endless_key(text):
        return Problem("nested too deeply", source)
    name, equals, value = (part.strip() for part in text.partition("="))
    key = _dotted(name)
    if not equals or not key:
        return Problem("this is not of the form KEY=VALUE", source, hints=("for example --set train.steps=200",))
    if not value:
        return Problem("the value is missing", source, hints=(f"""an empty text is --set '{name}=""'""",))
    try:
        as_toml_data(name)
        return Override(key, as_toml_data(_value(value), key), source)
    except tomllib.TOMLDecodeError:
        return Problem(
            f"{value} is no TOML value",
            source,
            hints=("put the whole argument into single quotes, so that the shell keeps the double ones",),
        )
    except (ValueError, RecursionError) as error:
        return Problem(str(error) if isinstance(error, ValueError) else "nested too deeply", source)


def check_used(overrides: Sequence[str], used: Sequence[str], by: str, unused: Mapping[str, str] = {}) -> None:
    """Raise RecipeError for overrides that `by`, such as a command, does not use.

    `used` are sections and dotted keys; `unused` are keys in these sections that are not used, each with a hint. What
    is malformed is reported where the overrides are applied.
    """
    problems = []
    for override in map(parse_override, overrides):
        if isinstance(override, Override):
            key = ".".join(override.key)
            if key in unused or not any(f"{key}.".startswith(f"{name}.") for name in used):
                hint = unused.get(key, f"it uses {listed(used, 'and')}")
                problems.append(Problem(f"{by} does not use `{key}`", override.source, hints=(hint,)))
    if problems:
        raise RecipeError(problems)


def _dotted(name: str) -> tuple[str, ...]:
    """The parts of a TOML key, or () when it is none."""
    try:
        table = tomllib.loads(f"{name} = 0") if "\n" not in name else {}
    except (tomllib.TOMLDecodeError, RecursionError):
        return ()
    parts: list[str] = []
    while isinstance(table, dict) and table:
        ((part, table),) = table.items()
        parts.append(part)
    return tuple(parts)


def _value(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        if _OPENING.match(text):
            raise
        return text
    return table["value"] if len(table) == 1 else text
