"""What a check of the installation found: the record that `ddpmkit doctor` prints.

It does not know what was looked at.
"""

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["Diagnosis"]

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Diagnosis:
    """The answer to one question about this machine. Secrets (keys, tokens) have no place in it.

    Raises ValueError when a field is malformed, which is then told of the plugin in place of its answer.
    """

    subject: str
    """A word or two: what was looked at."""
    state: State
    """`ok`; `note`: it works, and someone may want to know; `problem`: something will fail."""
    finding: str
    """One line: what was found."""
    remedies: tuple[str, ...] = ()
    """Ways out, each a command or a sentence."""
    details: str = ""
    """A traceback, shown only when asked for."""

    def __post_init__(self) -> None:
        """Refuse what could not be shown."""
        for field in ("subject", "finding", "details"):
            if not isinstance(value := getattr(self, field), str):
                raise ValueError(f"the diagnosis of {self.subject!r}: {field} is {value!r}, which is no text")
        if self.state not in (states := get_args(State)):
            raise ValueError(
                f"the diagnosis of {self.subject!r} has the unknown state {self.state!r}; "
                f"states are {', '.join(states)}"
            )
        # A bare string is a sequence too, of letters.
        if not isinstance(self.remedies, tuple) or not all(isinstance(remedy, str) for remedy in self.remedies):
            raise ValueError(
                f"the diagnosis of {self.subject!r}: remedies must be a tuple of texts, not {self.remedies!r}"
            )
