"""What a check of the installation found: the record that `ddpmkit doctor` prints.

It does not know what was looked at.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Diagnosis"]


@dataclass(frozen=True)
class Diagnosis:
    """The answer to one question about this machine. Secrets (keys, tokens) have no place in it."""

    subject: str
    """A word or two: what was looked at."""
    state: Literal["ok", "note", "problem"]
    """`note`: it works, and someone may want to know; `problem`: something will fail."""
    finding: str
    """One line: what was found."""
    remedies: tuple[str, ...] = ()
    """Ways out, each a command or a sentence."""
    details: str = ""
    """A traceback, shown only when asked for."""
