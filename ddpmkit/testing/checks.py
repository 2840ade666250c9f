"""`Rule`: what is checked. `Check`: a rule applied to one component. `Outcome`: the result."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ddpmkit.errors import ComponentUnavailable, error_text
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plugin.fault_location import frame_location
from ddpmkit.testing.failures import ConformanceError, NotApplicable, NotBuilt, NotChecked
from ddpmkit.testing.subject import Subject

__all__ = ["Check", "Outcome", "Rule"]

_FIX_FIRST = (
    "It raises even in the simplest use, so other checks cannot be run. Fix this first. "
    "Run `ddpmkit -v plugins check` to see the traceback."
)
_REMOVE_XFAIL = "Remove it from `xfail`."


@dataclass(frozen=True)
class Rule:
    """A requirement on all components, or on all components of a kind."""

    id: str
    """`kind.name` or `manners.name`. It never changes once published."""
    requirement: str
    """A statement that must be true, in lower case and without a period."""
    remedy: str
    """What to change if it is not."""
    check: Callable[[Subject], None]
    """Raises one of the exceptions in `ddpmkit.testing.failures` if it is not."""


@dataclass(frozen=True)
class Outcome:
    """The result of a check."""

    rule: Rule
    subject: Subject
    status: Literal["passed", "failed", "xfailed", "xpassed", "not checked", "not applicable"]
    """`xfailed`: failed, as declared. `xpassed`: passed although declared to fail, which counts as a failure.
    `not checked`: the component raised before it could be checked. `not applicable`: the rule does not apply."""
    seen: str = ""
    """What was found instead, or why the check was not run or does not apply."""
    reason: str = ""
    """Why it was declared to fail."""
    remedy: str = ""
    """What to do now."""
    error: BaseException | None = None
    """What the component raised, if anything."""

    @property
    def good(self) -> bool:
        """Whether nothing needs to be done."""
        return self.status in ("passed", "xfailed", "not applicable")

    @property
    def traceback(self) -> str:
        """The traceback of `error`; empty if there is none."""
        return "".join(traceback.format_exception(self.error)) if self.error is not None else ""

    @property
    def cause(self) -> tuple[type[BaseException], str, int | None] | None:
        """Type, file and line of `error`, equal for checks that failed for the same reason. None without an error."""
        frames = traceback.extract_tb(self.error.__traceback__) if self.error is not None else []
        return (type(self.error), frames[-1].filename, frames[-1].lineno) if self.error is not None and frames else None

    def facts(self) -> list[tuple[str, str]]:
        """Labels and texts to show, empty if there is nothing to do."""
        match self.status:
            case "failed":
                return [("expected", self.rule.requirement), ("found", self.seen), ("to fix", self.remedy)]
            case "not checked":
                return [("found", self.seen), ("to fix", self.remedy)]
            case "xfailed":
                return [("reason", self.reason), ("found", self.seen)]
            case "xpassed":
                return [("found", f"{self.seen}, but was declared to fail: {self.reason}"), ("to fix", self.remedy)]
        return []

    def __str__(self) -> str:
        why = f": {self.seen}" if self.status == "not applicable" else ""
        head = f"{self.rule.id}: {self.subject.registered.id} {self.status}{why}"
        return "\n".join([head, *(f"  {label + ':':<9} {text}" for label, text in self.facts())])


@dataclass(frozen=True)
class Check:
    """A rule applied to one component."""

    rule: Rule
    subject: Subject
    xfail: str = ""
    """Why the check is expected to fail; empty if it is expected to pass."""

    @property
    def id(self) -> str:
        """The id of the rule."""
        return self.rule.id

    def outcome(self) -> Outcome:
        """Run the check and return its outcome, whatever the component raises.

        Raises ComponentUnavailable if the component does: it cannot work on this machine, so it is not checked.
        """
        try:
            self.rule.check(self.subject)
        except ComponentUnavailable:
            raise
        except ConformanceError as failure:
            cause = failure.__context__
            return self._failed(f"{failure}{self._location(cause)}", self.rule.remedy, cause)
        except NotApplicable as why:
            return self._fine("not applicable", str(why))
        except NotBuilt as error:
            # A component that other checks can build has failed this one.
            if isinstance(self.subject.observation.error, NotBuilt):
                return self._not_checked(error)
            return self._raised(error.__cause__ or error)
        except NotChecked as error:
            return self._not_checked(error)
        except BaseException as error:
            if is_interrupt(error):
                raise
            return self._raised(error)
        return self._fine("passed", "it passes")

    def run(self) -> Outcome:
        """Run the check and return its outcome.

        Raises ConformanceError, with what was found and what to do, unless the outcome is good. Raises
        ComponentUnavailable if the component does.
        """
        outcome = self.outcome()
        if not outcome.good:
            raise ConformanceError(str(outcome)) from outcome.error
        return outcome

    def _fine(self, status: Literal["passed", "not applicable"], seen: str) -> Outcome:
        if self.xfail:
            return Outcome(self.rule, self.subject, "xpassed", seen, self.xfail, _REMOVE_XFAIL)
        return Outcome(self.rule, self.subject, status, seen)

    def _raised(self, error: BaseException) -> Outcome:
        # The remedy of the rule does not help if the component raises even in the simplest use.
        remedy = self.rule.remedy if self.subject.observation.error is None else _FIX_FIRST
        return self._failed(f"{error_text(error)}{self._location(error)}", remedy, error)

    def _failed(self, seen: str, remedy: str, error: BaseException | None) -> Outcome:
        return Outcome(self.rule, self.subject, "xfailed" if self.xfail else "failed", seen, self.xfail, remedy, error)

    def _not_checked(self, error: NotChecked) -> Outcome:
        cause = error.__cause__
        seen = str(error) if cause is None else f"{error}: {error_text(cause)}{self._location(cause)}"
        return Outcome(self.rule, self.subject, "not checked", seen, self.xfail, _FIX_FIRST, cause)

    def _location(self, error: BaseException | None) -> str:
        registered = self.subject.registered
        location = frame_location(registered.plugin, error, registered.component.target)
        return f", raised at {location}" if location else ""

    def __str__(self) -> str:
        return self.id
