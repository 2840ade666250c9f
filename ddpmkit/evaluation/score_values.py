"""Separates the finite scores of a metric from NaN, infinity and values that are not numbers."""

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
    """Everything else, as text: `nan`, `inf`, `'good'`."""


def check_scores(name: str, returned: Any) -> CheckedScores:
    """Check what `scores()` of the metric `name` returned. Raises RunFailed if it is not a mapping."""
    if not isinstance(returned, Mapping):
        raise RunFailed(
            f"metric {name!r}: its scores() returned {type(returned).__name__}, not a mapping of names to numbers.",
            remedies=["run `ddpmkit plugins check` to test the metric", "use another metric"],
        )
    found = CheckedScores({}, {})
    for key, value in returned.items():
        number = _number(value)
        if number is not None and math.isfinite(number):
            found.values[str(key)] = number
        else:
            found.unusable[str(key)] = repr(value if number is None else number)[:_LONGEST]
    return found


def _number(value: Any) -> float | None:
    """The number, including torch and NumPy scalars; None for text, even if it looks like a number."""
    if isinstance(value, str | bytes):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
