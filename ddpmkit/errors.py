"""Errors for people: what is wrong, where, and what to do next.

Every failure that a user can cause or mend is one of these; anything else that surfaces is a bug of ours. This module
does not know who raises them or how they are printed.
"""

from collections.abc import Sequence

__all__ = [
    "ComponentUnavailable",
    "DdpmkitError",
    "InputError",
    "PluginError",
    "RunFailed",
    "WrongAnswer",
    "text_of",
    "worded",
]


class DdpmkitError(Exception):
    """A failure that can be explained.

    `message` says what is wrong and where; each entry of `remedies` is one way out, a sentence or a command.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedies: Sequence[str] = ()) -> None:
        super().__init__(text_of(message))
        self.message = text_of(message)
        self.remedies = tuple(map(text_of, remedies))

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  - {remedy}" for remedy in self.remedies)])


class InputError(DdpmkitError):
    """What the user gave cannot be used: a recipe, a folder, an image, an option. Exit code 2."""

    exit_code = 2


class PluginError(InputError):
    """A plugin or a component that the recipe needs is missing, broken or claimed twice."""


class ComponentUnavailable(InputError):
    """A component is installed but cannot work here (a file or a service is not to be had).

    Raised by a component while it is built, so that it is said before any work starts.
    """


class RunFailed(DdpmkitError):
    """The run itself failed after it had begun; what it had written stays."""


class WrongAnswer(Exception):
    """A component returned what its contract does not allow.

    `kind` says which component of the recipe it is; whoever knows the recipe names it.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def worded(error: BaseException) -> str:
    """`KeyError: 'scale'`; what was said for people stands for itself."""
    if isinstance(error, DdpmkitError):
        return error.message
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def text_of(value: object) -> str:
    """`str(value)`, also of an exception of a plugin whose text cannot be made."""
    try:
        return "".join(str(value))
    except BaseException as error:
        return f"(its text cannot be made: {type(error).__name__})"
