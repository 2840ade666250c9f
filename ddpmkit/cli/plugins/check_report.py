"""Prints the outcomes of conformance checks."""

import contextlib
import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from ddpmkit.cli.terminal import Terminal

if TYPE_CHECKING:
    from ddpmkit.plugin.registered_component import RegisteredComponent
    from ddpmkit.testing import Check, Outcome

__all__ = ["CheckedComponent", "print_all", "print_header", "print_outcome", "print_totals", "run_check"]

_MARKS = {
    "passed": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "xfailed": ("x", "yellow"),
    "xpassed": ("✗", "bold red"),
    "not checked": ("?", "bold red"),
    "not applicable": ("-", "dim"),
    "skipped": ("-", "yellow"),
}
_LABELS = {
    "passed": "passed",
    "failed": "failed",
    "xfailed": "failed as expected",
    "xpassed": "passed unexpectedly",
    "not checked": "not checked",
    "not applicable": "not applicable",
}


@dataclass(frozen=True)
class CheckedComponent:
    """The result of all checks of one component."""

    outcomes: tuple["Outcome", ...] = ()
    skipped: str = ""
    """Why no check ran; empty if checks ran."""
    broken: str = ""
    """Why the component's code cannot be imported; empty if it can."""
    seconds: float = 0.0

    @property
    def state(self) -> str:
        """`passed`, `failed`, `not checked` or `skipped`."""
        if self.skipped:
            return "skipped"
        if not self.broken and all(outcome.good for outcome in self.outcomes):
            return "passed"
        failed = self.broken or any(outcome.status in ("failed", "xpassed") for outcome in self.outcomes)
        return "failed" if failed else "not checked"

    @property
    def text(self) -> str:
        """The result in a few words."""
        return self.skipped or self.broken or f"{_totals(self.outcomes)} in {self.seconds:.1f} s"


def run_check(item: "Check") -> "Outcome":
    """Run a check with standard output and error captured: a check of its own reports a component that prints."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return item.outcome()


def print_header(terminal: Terminal, entry: "RegisteredComponent") -> None:
    """Print the component that is about to be checked."""
    terminal.out.print(Text.assemble((f"{entry.kind} {entry.use}", "bold"), f"  {entry.origin}"))


def print_outcome(terminal: Terminal, outcomes: Sequence["Outcome"], column: int) -> None:
    """Print the last outcome, with check ids in a column of this width."""
    outcome = outcomes[-1]
    terminal.out.print(
        Text.assemble("  ", _MARKS[outcome.status], f" {outcome.rule.id:<{column}}  ", _description(outcome))
    )
    _print_facts(terminal, outcomes)


def print_totals(terminal: Terminal, outcomes: Sequence["Outcome"]) -> None:
    """Print how many checks passed, failed and so on."""
    terminal.out.print(f"\n{_totals(outcomes)}", style="bold")


def print_all(
    terminal: Terminal,
    entries: Sequence["RegisteredComponent"],
    check: Callable[["RegisteredComponent"], CheckedComponent],
) -> bool:
    """Check each component and print one line for it, then its failures; return whether none failed."""
    width = max((len(entry.use) for entry in entries), default=0)
    kind_width = max((len(entry.kind) for entry in entries), default=0)
    origin_width = max((len(entry.origin) for entry in entries), default=0)
    states = []
    for entry in entries:
        found = check(entry)
        states.append(found.state)
        columns = f" {entry.kind:<{kind_width}}  {entry.use:<{width}}  "
        origin = (f"{entry.origin:<{origin_width}}  ", "dim")
        terminal.out.print(Text.assemble(_MARKS[found.state], columns, origin, found.text))
        for number, outcome in enumerate(found.outcomes, 1):
            if outcome.facts():
                head = f" {outcome.rule.id}  {_LABELS[outcome.status]}"
                terminal.out.print(Text.assemble("  ", _MARKS[outcome.status], head))
                _print_facts(terminal, found.outcomes[:number])
    order = ("passed", "failed", "not checked", "skipped")
    counts = [f"{states.count(state)} {state}" for state in order if state in states]
    terminal.out.print(f"\n{len(entries)} components: {', '.join(counts) or 'nothing to check'}", style="bold")
    if "skipped" in states:
        terminal.show_note("run `ddpmkit plugins check NAME [--set KEY=VALUE]` to check a skipped component")
    return not {"failed", "not checked"} & set(states)


def _totals(outcomes: Sequence["Outcome"]) -> str:
    found = [outcome.status for outcome in outcomes]
    return ", ".join(f"{found.count(status)} {label}" for status, label in _LABELS.items() if status in found)


def _description(outcome: "Outcome") -> tuple[str, str]:
    """Return text and style."""
    match outcome.status:
        case "passed":
            return outcome.rule.requirement, "dim"
        case "not applicable":
            return f"not applicable: {outcome.seen}", "dim"
    return _LABELS[outcome.status], ""


def _print_facts(terminal: Terminal, outcomes: Sequence["Outcome"]) -> None:
    """Print the details of the last outcome. A reason or a traceback that an earlier outcome has is not repeated."""
    *before, outcome = outcomes
    repeated = outcome.cause is not None and outcome.cause in [other.cause for other in before]
    if outcome.status == "not checked" and (repeated or outcome.facts() in [other.facts() for other in before]):
        return
    for label, text in outcome.facts():
        first, *rest = terminal.lines(text, indent=16)
        terminal.out.print(Text.assemble("      ", (f"{label:<8}", "dim"), f"  {first}"))
        for line in rest:
            terminal.out.print(" " * 16 + line)
    if terminal.verbose and outcome.traceback:
        shown = "traceback as above" if repeated else outcome.traceback.rstrip()
        terminal.out.print(textwrap.indent(shown, " " * 6))
