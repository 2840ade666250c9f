"""One check: a question that every component of a kind must answer with yes, and what to do when it does not.

It does not know what is checked.
"""

import functools
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ddpmkit.errors import ComponentUnavailable, worded
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plugin.component import ComponentConfig
from ddpmkit.plugin.registry import RegisteredComponent
from ddpmkit.testing.exception_text import place_of, unwrapped

if TYPE_CHECKING:
    from ddpmkit.testing.side_effects import Observation

__all__ = [
    "Answers",
    "Check",
    "ConformanceError",
    "NotApplicable",
    "NotBuilt",
    "NotChecked",
    "Outcome",
    "Rule",
    "Subject",
    "Use",
    "require",
]

_RAISES = (
    "It raises at its plainest use, so no check can say more: mend what raises there first. "
    "`ddpmkit -v plugins check` shows the traceback."
)
_NOT_TO_EXCUSE = "Take it out of `xfail`: there is nothing to excuse."

Answers = Mapping[str, Any]
"""What a component answered, by name: tensors, arrays, or plain values."""


class ConformanceError(AssertionError):
    """A component does not do what its kind must, or does what it was said not to do."""


class NotApplicable(Exception):
    """A question does not arise for a component. The message says why."""


class NotChecked(Exception):
    """A question could not be put to a component. The message says why; the cause is what the component raised."""


class NotBuilt(NotChecked):
    """It could not be put because the component could not be built."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A component with the config it is checked at."""

    registered: RegisteredComponent
    config: ComponentConfig
    use: "Use"
    timesteps: tuple[int, ...] = ()
    """Further T that a schedule is checked at."""

    def build(self, **runtime: Any) -> Any:
        """A fresh component. Raises NotBuilt from what its code raised, ComponentUnavailable as it is."""
        try:
            return self.registered.build(self.config, **runtime)
        except ComponentUnavailable:
            raise
        except BaseException as error:
            if is_interrupt(error):
                raise
            raise NotBuilt("it cannot be built") from unwrapped(error)

    @functools.cached_property
    def observation(self) -> "Observation":
        """What was seen from outside while it was built and used, twice. Several checks of manners look at it."""
        from ddpmkit.testing.side_effects import observe  # imports torch

        return observe(self)

    def require_provided(self, capability: str) -> None:
        """Raise NotApplicable when the component does not say that it provides the capability."""
        if capability not in self.registered.component.provides:
            raise NotApplicable(f"it does not provide `{capability}`")

    def require_use(self) -> None:
        """Raise NotChecked when it raises at its plainest use: what was not seen of it says nothing then."""
        if isinstance(error := self.observation.error, NotChecked):
            raise error
        if error is not None:
            raise NotChecked("it raises when it is used") from error


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
    status: Literal["passed", "failed", "xfailed", "xpassed", "not checked", "not applicable"]
    """`xfailed`: it failed, as was announced; `xpassed`: it was announced to fail and passed, which is a failure;
    `not checked`: the component raised before it could be asked; `not applicable`: the question does not arise."""
    seen: str = ""
    """What was seen where the answer was no, or kept the question from being put, or from arising."""
    reason: str = ""
    """Why it was announced to fail."""
    remedy: str = ""
    """What to do now."""
    error: BaseException | None = None
    """What the component raised, if it did."""

    @property
    def good(self) -> bool:
        """Whether nobody need do anything now."""
        return self.status in ("passed", "xfailed", "not applicable")

    @property
    def traceback(self) -> str:
        """Of what the component raised; empty where it did not."""
        return "".join(traceback.format_exception(self.error)) if self.error is not None else ""

    def facts(self) -> list[tuple[str, str]]:
        """Labels and texts for a person: nothing where there is nothing to do."""
        match self.status:
            case "failed":
                return [("asked", self.rule.question), ("seen", self.seen), ("to mend", self.remedy)]
            case "not checked":
                return [("seen", self.seen), ("to mend", self.remedy)]
            case "xfailed":
                return [("reason", self.reason), ("seen", self.seen)]
            case "xpassed":
                return [("seen", f"{self.seen}, though it was to fail: {self.reason}"), ("to mend", self.remedy)]
        return []

    def __str__(self) -> str:
        why = f": {self.seen}" if self.status == "not applicable" else ""
        head = f"{self.rule.id}: {self.subject.registered.id} {self.status}{why}"
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
        except ConformanceError as failure:
            return self._failed(f"{failure}{self._place(failure.__context__)}", self.rule.remedy, failure.__context__)
        except NotApplicable as why:
            return self._well("not applicable", str(why))
        except NotBuilt as error:
            # One that is built for other checks has failed this one.
            if isinstance(self.subject.observation.error, NotBuilt):
                return self._not_checked(error)
            return self._raised(error.__cause__ or error)
        except NotChecked as error:
            return self._not_checked(error)
        except BaseException as error:
            if is_interrupt(error):
                raise
            return self._raised(error)
        return self._well("passed", "it passes")

    def _well(self, status: Literal["passed", "not applicable"], seen: str) -> Outcome:
        if self.xfail:
            return Outcome(self.rule, self.subject, "xpassed", seen, self.xfail, _NOT_TO_EXCUSE)
        return Outcome(self.rule, self.subject, status, seen)

    def _raised(self, error: BaseException) -> Outcome:
        # What is raised whatever is asked is no fault that the check knows of.
        remedy = self.rule.remedy if self.subject.observation.error is None else _RAISES
        return self._failed(f"{worded(error)}{self._place(error)}", remedy, error)

    def _failed(self, seen: str, remedy: str, error: BaseException | None) -> Outcome:
        return Outcome(self.rule, self.subject, "xfailed" if self.xfail else "failed", seen, self.xfail, remedy, error)

    def _not_checked(self, error: NotChecked) -> Outcome:
        cause = error.__cause__
        seen = str(error) if cause is None else f"{error}: {worded(cause)}{self._place(cause)}"
        return Outcome(self.rule, self.subject, "not checked", seen, self.xfail, _RAISES, cause)

    def _place(self, error: BaseException | None) -> str:
        place = place_of(error, self.subject.registered)
        return f", raised at {place}" if place else ""

    def run(self) -> Outcome:
        """Ask. Raises ConformanceError with what was seen and what to do, ComponentUnavailable as `outcome` does."""
        outcome = self.outcome()
        if not outcome.good:
            raise ConformanceError(str(outcome)) from outcome.error
        return outcome

    def __str__(self) -> str:
        return self.id


def require(condition: bool, seen: str) -> None:
    """Raise ConformanceError with what was seen unless `condition` holds."""
    if not condition:
        raise ConformanceError(seen)
