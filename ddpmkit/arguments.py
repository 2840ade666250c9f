"""Numbers that a Python caller gives, held to the ranges that the command line and recipes have."""

import numbers

from ddpmkit.errors import InputError

__all__ = ["LARGEST_SEED", "whole_number"]

LARGEST_SEED = 2**63 - 1


def whole_number(name: str, value: object, least: int, most: int | None = None) -> int:
    """`value` as an int. Raises InputError if it is not a whole number from `least` to `most`; None: no upper limit."""
    wanted = f"of at least {least:,}" if most is None else f"from {least:,} to {most:,}"
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number {wanted}, not {value!r}.")
    number = int(value)
    if number < least or (most is not None and number > most):
        raise InputError(f"{name} must be a whole number {wanted}, not {number}.")
    return number
