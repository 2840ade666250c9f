"""What a metric answers, check_scores: finite numbers by name, and apart from them what is no such number."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ddpmkit.errors import RunFailed

__all__ = ["CheckedScores", "check_scores"]

_LONGEST = 100


class CheckedScores(NamedTuple):
    """The scores of a metric."""

    values: dict[str, float]
    """Finite numbers."""
    unusable: dict[str, str]
    """The rest, as text: `nan`, `inf`, `'good'`."""


def check_scores(name: str, answer: Any) -> CheckedScores:
    """The answer of a metric's `scores()`; `name` is the metric's. Raises RunFailed if it is not a mapping."""
    if not isinstance(answer, Mapping):
        raise RunFailed(
            f"metric {name!r}: its scores() returned {type(answer).__name__}, not numbers by name.",
            remedies=["`ddpmkit plugins check` tests the metric", "use another metric"],
        )
    found = CheckedScores({}, {})
    for key, value in answer.items():
        number = _number(value)
        if number is not None and math.isfinite(number):
            found.values[str(key)] = number
        else:
            found.unusable[str(key)] = repr(value if number is None else number)[:_LONGEST]
    return found


def _number(value: Any) -> float | None:
    """Numbers of torch and NumPy count; text that looks like a number does not."""
    if isinstance(value, str | bytes):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
