"""One check: a question that every component of a kind must answer with yes, and what to do when it does not.

It does not know what is checked.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ddpmkit.errors import ComponentUnavailable, DdpmkitError
from ddpmkit.plugin.component import ComponentConfig
from ddpmkit.plugin.registry import RegisteredComponent

if TYPE_CHECKING:
    from ddpmkit.testing.observation import Observation

__all__ = ["Answers", "Check", "ConformanceError", "Outcome", "Rule", "Subject", "Use", "require"]

Answers = Mapping[str, Any]
"""What a component answered, by name: tensors, arrays, or plain values."""


class ConformanceError(AssertionError):
    """A component does not do what its kind must, or does what it was said not to do."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A component with the config it is checked at."""

    registered: RegisteredComponent
    config: ComponentConfig
    use: "Use"

    def build(self, **runtime: Any) -> Any:
        """A fresh component."""
        return self.registered.build(self.config, **runtime)

    @functools.cached_property
    def observation(self) -> "Observation":
        """What was seen from outside while it was built and used, twice. Several checks of manners look at it."""
        from ddpmkit.testing.observation import observe  # imports torch

        return observe(self)


Use = Callable[[Subject], Answers]
"""Builds a component and uses it once, as a run does."""


@dataclass(frozen=True)
class Rule:
    """A check before it is put to anyone. `ask` raises when the answer to `question` is no."""

    id: str
    """`kind.name`, or `manners.name`; never changed once published."""
    question: str
    remedy: str
    """What to look at when the answer is no."""
    ask: Callable[[Subject], None]


@dataclass(frozen=True)
class Outcome:
    """What came of a check."""

    rule: Rule
    subject: Subject
    status: Literal["passed", "failed", "xfailed", "xpassed"]
    """`xfailed`: it failed, as was announced; `xpassed`: it was announced to fail and passed, which is a failure."""
    seen: str = ""
    """What was seen where the answer was no."""
    reason: str = ""
    """Why it was announced to fail."""

    @property
    def good(self) -> bool:
        """Whether nobody need do anything now."""
        return self.status in ("passed", "xfailed")

    def facts(self) -> list[tuple[str, str]]:
        """Labels and texts for a person: nothing where it passed."""
        match self.status:
            case "failed":
                return [("asked", self.rule.question), ("seen", self.seen), ("to mend", self.rule.remedy)]
            case "xfailed":
                return [("reason", self.reason), ("seen", self.seen)]
            case "xpassed":
                mended = "Take it out of `xfail`: what it excused is mended."
                return [("seen", f"it passes, though it was to fail: {self.reason}"), ("to mend", mended)]
        return []

    def __str__(self) -> str:
        head = f"{self.rule.id}: {self.subject.registered.id} {self.status}"
        return "\n".join([head, *(f"  {label + ':':<8} {text}" for label, text in self.facts())])


@dataclass(frozen=True)
class Check:
    """A rule put to one component."""

    rule: Rule
    subject: Subject
    xfail: str = ""
    """Why it is expected to fail; empty: it is not."""

    @property
    def id(self) -> str:
        """That of its rule."""
        return self.rule.id

    def outcome(self) -> Outcome:
        """Ask. A failure of any kind is an outcome; only ComponentUnavailable passes through.

        A component that cannot work here was not checked.
        """
        try:
            self.rule.ask(self.subject)
        except ComponentUnavailable:
            raise
        except Exception as error:
            return Outcome(self.rule, self.subject, "xfailed" if self.xfail else "failed", _seen(error), self.xfail)
        return Outcome(self.rule, self.subject, "xpassed" if self.xfail else "passed", reason=self.xfail)

    def run(self) -> Outcome:
        """Ask. Raises ConformanceError with what was seen and what to do, ComponentUnavailable as `outcome` does."""
        outcome = self.outcome()
        if not outcome.good:
            raise ConformanceError(str(outcome))
        return outcome

    def __str__(self) -> str:
        return self.id


def require(condition: bool, seen: str) -> None:
    """Raise ConformanceError with what was seen unless `condition` holds."""
    if not condition:
        raise ConformanceError(seen)


def _seen(error: Exception) -> str:
    if isinstance(error, DdpmkitError):
        return error.message
    return str(error) if isinstance(error, ConformanceError) else f"{type(error).__name__}: {error}"
