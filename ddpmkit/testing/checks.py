"""One check: an id, a question put to a component, and what to do when the answer is no.

It does not know what is checked.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ddpmkit.errors import ComponentUnavailable, DdpmkitError
from ddpmkit.plugin.component import ComponentConfig
from ddpmkit.plugin.registry import RegisteredComponent

__all__ = ["Check", "ConformanceError", "Subject", "require"]


class ConformanceError(AssertionError):
    """A component does not do what its kind must."""


@dataclass(frozen=True)
class Subject:
    """A component with the config it is checked at."""

    registered: RegisteredComponent
    config: ComponentConfig

    def build(self, **runtime: Any) -> Any:
        """A fresh component."""
        return self.registered.build(self.config, **runtime)


@dataclass(frozen=True)
class Check:
    """`question` is put by `ask`, which raises when the answer is no."""

    id: str
    question: str
    advice: str
    subject: Subject
    ask: Callable[[Subject], None]

    def run(self) -> None:
        """Raises ConformanceError that says what was seen and what to do.

        ComponentUnavailable passes through: a component that cannot work here was not checked.
        """
        try:
            self.ask(self.subject)
        except ComponentUnavailable:
            raise
        except Exception as error:
            seen = f"{type(error).__name__}: {error}"
            if isinstance(error, ConformanceError | DdpmkitError):
                seen = error.args[0]
            raise ConformanceError(
                f"{self.id}: {self.subject.registered.id} fails: {self.question}\n  seen: {seen}\n  {self.advice}"
            ) from error

    def __str__(self) -> str:
        return self.id


Checks = Iterator[tuple[str, str, str, Callable[[Subject], None]]]
"""Id, question, advice and the function that asks."""


def require(condition: bool, seen: str) -> None:
    """Raise ConformanceError with what was seen unless `condition` holds."""
    if not condition:
        raise ConformanceError(seen)
