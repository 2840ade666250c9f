"""Runs one check. A check that raises is a problem too."""

import traceback
import warnings
from collections.abc import Callable

from ddpmkit.errors import safe_str
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plugin.diagnosis import Diagnosis

__all__ = ["diagnose", "one_line"]


def diagnose(subject: str, check: Callable[[], Diagnosis], *, remedies: tuple[str, ...] = ()) -> Diagnosis:
    """Return the result of `check`, or a problem with a traceback if it raises or returns something else.

    `remedies` are shown in that second case.
    """
    try:
        # A library that works only in part also warns about it. The check reports what matters.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = check()
        if not isinstance(found, Diagnosis):
            raise TypeError(f"it returned {found!r}, which is not a Diagnosis")
    except BaseException as error:
        if is_interrupt(error):
            raise
        finding = f"the check failed: {one_line(error)}"
        return Diagnosis(subject, "problem", finding, remedies, "".join(traceback.format_exception(error)))
    return found


def one_line(error: BaseException) -> str:
    """The type and the first line of the message: `RuntimeError: operator torchvision::nms does not exist`."""
    text = safe_str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
