"""`Diagnosis`: the result of one check by `ddpmkit doctor`."""

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["Diagnosis"]

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Diagnosis:
    """The result of one check of the installation. It must not contain secrets such as keys or tokens.

    Raises ValueError if a field is malformed. `ddpmkit doctor` then reports that error as a problem of the plugin.
    """

    subject: str
    """What was checked, in a word or two."""
    state: State
    """`ok`; `note`: it works, but the user should read the finding; `problem`: something will fail."""
    finding: str
    """The result, in one line."""
    remedies: tuple[str, ...] = ()
    """What to do about it: each item is a command or a sentence."""
    details: str = ""
    """A traceback, shown with `-v`."""

    def __post_init__(self) -> None:
        """Raise ValueError if a field is malformed."""
        for field in ("subject", "finding", "details"):
            if not isinstance(value := getattr(self, field), str):
                raise ValueError(f"the diagnosis of {self.subject!r}: {field} must be a string, not {value!r}")
        if self.state not in (states := get_args(State)):
            raise ValueError(
                f"the diagnosis of {self.subject!r} has the unknown state {self.state!r}; "
                f"states are {', '.join(states)}"
            )
        # A string is a sequence of its characters, so it would be accepted without this check.
        if not isinstance(self.remedies, tuple) or not all(isinstance(remedy, str) for remedy in self.remedies):
            raise ValueError(
                f"the diagnosis of {self.subject!r}: remedies must be a tuple of strings, not {self.remedies!r}"
            )
