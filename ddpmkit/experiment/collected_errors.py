"""Collects the input errors of independent steps, to report them together."""

import contextlib
from collections.abc import Iterator, Sequence

from ddpmkit.errors import InputError

__all__ = ["ErrorCollector"]


class ErrorCollector:
    """Collects the InputErrors of several steps."""

    def __init__(self) -> None:
        self._errors: list[InputError] = []

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Catch an InputError raised in the block, and store it."""
        try:
            yield
        except _SeveralErrors as error:
            self._errors += error.errors
        except InputError as error:
            self._errors.append(error)

    def raise_collected(self) -> None:
        """Raise the collected error. Several are raised as one InputError with the text of each."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise _SeveralErrors(self._errors)


class _SeveralErrors(InputError):
    def __init__(self, errors: Sequence[InputError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n\n".join([*dict.fromkeys(map(str, errors)), f"{len(errors)} problems."]))
