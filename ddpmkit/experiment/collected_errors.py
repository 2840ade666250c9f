"""Faults in what a user gave, found by steps that do not depend on each other, and reported together."""

import contextlib
from collections.abc import Iterator, Sequence

from ddpmkit.errors import InputError

__all__ = ["Gathering"]


class Gathering:
    """Collects the InputErrors of several steps."""

    def __init__(self) -> None:
        self._errors: list[InputError] = []

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Keep an InputError that is raised within, instead of passing it on."""
        try:
            yield
        except _Several as error:
            self._errors += error.errors
        except InputError as error:
            self._errors.append(error)

    def raise_all(self) -> None:
        """Raise what was kept: a single error as it is, several as one InputError with the text of each."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise _Several(self._errors)


class _Several(InputError):
    """More than one."""

    def __init__(self, errors: Sequence[InputError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n\n".join([*dict.fromkeys(map(str, errors)), f"{len(errors)} problems."]))
