"""What to say about a text that is no TOML.

`tomllib` finds the place; the usual remedy for what stands there is added. It does not know where texts come from.
"""

import re

from ddpmkit.recipe.problems import Problem
from ddpmkit.recipe.toml_positions import Span

__all__ = ["syntax_problem"]

_FOUND = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL)
_BARE_VALUE = re.compile(r"([A-Za-z_./~][\w./~-]*)\s*(?:#.*)?$")
_TWICE = ("Cannot overwrite", "Cannot declare", "Cannot mutate", "Duplicate")


def syntax_problem(error: str, text: str, source: str) -> Problem:
    """`error` is what tomllib says of `text`."""
    found = _FOUND.fullmatch(error)
    what = found["what"] if found else error
    lowered = what[:1].lower() + what[1:]
    if found is None or found["line"] is None:
        lines = text.rstrip("\n").split("\n")
        span = Span(len(lines), len(lines[-1]) + 1, 1, lines[-1])
        return Problem(f"the file ends too early: {lowered}", source, span)
    number, column = int(found["line"]), int(found["column"])
    line = text.split("\n")[number - 1]
    if what.startswith(_TWICE):
        span = Span(number, len(line) - len(line.lstrip()) + 1, max(1, len(line.strip())), line)
        return Problem("this is written twice", source, span, ("keep one of them",))
    word = _BARE_VALUE.match(line, column - 1) if what == "Invalid value" else None
    width, hints = (len(word[1]), (_remedy(word[1]),)) if word else (1, ())
    return Problem(f"not valid TOML: {lowered}", source, Span(number, column, width, line), hints)


def _remedy(word: str) -> str:
    """What to write instead of a bare word."""
    if word.lower() in ("true", "false"):
        return f"TOML writes {word.lower()}"
    if word.lower() in ("none", "null", "nil"):
        return "TOML has no such value: leave the key out"
    return f'a string needs quotes: "{word}"'
