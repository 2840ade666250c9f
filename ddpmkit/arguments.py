"""Validation of integer arguments of the Python API, with the same ranges as in recipes and on the command line."""

import numbers

from ddpmkit.errors import InputError

__all__ = ["LARGEST_SEED", "checked_int"]

LARGEST_SEED = 2**63 - 1


def checked_int(name: str, value: object, least: int, most: int | None = None) -> int:
    """Return `value` as an int. Raises InputError unless it is an integer from `least` to `most` (None: no limit)."""
    expected = f"of at least {least:,}" if most is None else f"from {least:,} to {most:,}"
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise InputError(f"{name} must be an integer {expected}, not {value!r}.")
    number = int(value)
    if number < least or (most is not None and number > most):
        raise InputError(f"{name} must be an integer {expected}, not {number}.")
    return number
