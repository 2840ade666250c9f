"""A question that cannot be answered is an answer too.

It does not know the questions.
"""

import traceback
import warnings
from collections.abc import Callable

from ddpmkit.errors import text_of
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plugin.diagnosis import Diagnosis

__all__ = ["answer", "in_one_line"]


def answer(subject: str, question: Callable[[], Diagnosis], *, remedies: tuple[str, ...] = ()) -> Diagnosis:
    """What `question` answers; a problem with a traceback where it raises, or answers with something else."""
    try:
        # A library that half works says so in warnings; what matters of them is for the question to say.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = question()
        if not isinstance(found, Diagnosis):
            raise TypeError(f"it answers {found!r}, which is no Diagnosis")
    except BaseException as error:
        if is_interrupt(error):
            raise
        finding = f"this cannot be told: {in_one_line(error)}"
        return Diagnosis(subject, "problem", finding, remedies, "".join(traceback.format_exception(error)))
    return found


def in_one_line(error: BaseException) -> str:
    """`RuntimeError: operator torchvision::nms does not exist`, the first line of what may be many."""
    text = text_of(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
