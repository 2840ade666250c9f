"""Errors for users: what is wrong, where, and what to do next.

Every failure that a user can cause or fix is one of these; any other exception is a bug of ddpmkit or of a plugin.
"""

from collections.abc import Sequence

__all__ = [
    "ComponentUnavailable",
    "ContractError",
    "DdpmkitError",
    "InputError",
    "PluginError",
    "RunFailed",
    "error_text",
    "safe_str",
]


class DdpmkitError(Exception):
    """A failure with an explanation.

    `message` states what is wrong and where; each entry of `remedies` is one solution, a sentence or a command.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedies: Sequence[str] = ()) -> None:
        super().__init__(safe_str(message))
        self.message = safe_str(message)
        self.remedies = tuple(map(safe_str, remedies))

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  - {remedy}" for remedy in self.remedies)])


class InputError(DdpmkitError):
    """Something that the user provides cannot be used: a recipe, a folder, an image, an option. Exit code 2."""

    exit_code = 2


class PluginError(InputError):
    """A plugin or a component that the recipe needs is missing, broken or defined twice."""


class ComponentUnavailable(InputError):
    """A component is installed but cannot work on this machine: a file or a service is not available.

    Raised while the component is built, before any work starts.
    """


class RunFailed(DdpmkitError):
    """A run failed after it had started. The files that it wrote stay."""


class ContractError(Exception):
    """A component returned a value that its contract does not allow.

    `kind` is the kind of the component; code that has the recipe adds the component's name to the message.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def error_text(error: BaseException) -> str:
    """Return one text for any exception, such as `KeyError: 'scale'`; for a DdpmkitError its message alone."""
    if isinstance(error, DdpmkitError):
        return error.message
    text = safe_str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def safe_str(value: object) -> str:
    """Return `str(value)`, or a placeholder if that raises, as it may for an exception of a plugin."""
    try:
        return "".join(str(value))
    except BaseException as error:
        return f"(its text cannot be shown: {type(error).__name__})"
