"""`ddpmkit plugins check`: does a component do what its kind must?

It does not know what is checked.
"""

import contextlib
import io
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from ddpmkit.cli.options import PluginChoice, plugin_options
from ddpmkit.cli.plugins.named import kind_option, named
from ddpmkit.cli.terminal import Terminal
from ddpmkit.contracts import KINDS
from ddpmkit.errors import ComponentUnavailable, PluginError

if TYPE_CHECKING:
    from ddpmkit.plugin.registered_component import RegisteredComponent
    from ddpmkit.testing import Check, Outcome

__all__ = ["check"]

_MARKS = {
    "passed": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "xfailed": ("x", "yellow"),
    "xpassed": ("✗", "bold red"),
    "not checked": ("?", "bold red"),
    "not applicable": ("-", "dim"),
    "left out": ("-", "yellow"),
}
_WORDS = {
    "passed": "passed",
    "failed": "failed",
    "xfailed": "failed as expected",
    "xpassed": "passed unexpectedly",
    "not checked": "not checked",
    "not applicable": "not applicable",
}
_CAUTION = "it may publish what it is told, and is checked only when named"


@click.command()
@click.argument("name", required=False)
@kind_option
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="A key of the named component, as in root=data/afhq. May be repeated.",
)
@click.option(
    "--xfail",
    metavar="ID=REASON",
    multiple=True,
    help="A check of the named component that fails for now, and why. It must fail then. May be repeated.",
)
@click.option(
    "--timesteps",
    metavar="T",
    multiple=True,
    type=click.IntRange(1, 10_000),
    help="Check the named schedule at this T too, as a recipe's diffusion.timesteps. May be repeated.",
)
@click.option(
    "--list", "only_list", is_flag=True, help="Print every check with its remedy as Markdown, and check nothing."
)
@plugin_options
@click.pass_context
def check(
    ctx: click.Context,
    name: str | None,
    kind: str | None,
    settings: tuple[str, ...],
    xfail: tuple[str, ...],
    timesteps: tuple[int, ...],
    only_list: bool,
    plugins: PluginChoice,
) -> None:
    """Run the conformance checks of a component, or of all that are installed.

    Without a name, components that need settings are named and left out, and so are trackers, for they may publish what
    they are told. Exit code 1 when a check fails, or could not be made because the component raised before.

    \b
    ddpmkit plugins check acme/zigzag
    ddpmkit plugins check image-folder --set root=data/afhq
    ddpmkit plugins check cosine --timesteps 3000
    """
    terminal: Terminal = ctx.obj
    if only_list:
        from ddpmkit.testing import checks_text

        click.echo(checks_text([kind] if kind else KINDS), nl=False)
        return
    of_one = {"--set": settings, "--xfail": xfail, "--timesteps": timesteps}
    if name is None and (given := [option for option, values in of_one.items() if values]):
        raise click.UsageError(f"{given[0]} needs the name of the component that it is for.")
    registry = plugins.registry()
    if name is None:
        good = _check_all(terminal, [entry for k in ([kind] if kind else KINDS) for entry in registry.of_kind(k)])
    else:
        options = {"settings": _settings(settings), "xfail": _excuses(xfail), "timesteps": timesteps}
        results = [_check_one(terminal, entry, options) for entry in named(registry, name, kind)]
        good = all(results)
    if not good:
        ctx.exit(1)


@dataclass(frozen=True)
class _Row:
    """What came of the checks of one component."""

    outcomes: tuple["Outcome", ...] = ()
    left_out: str = ""
    """Why nothing was asked of it."""
    broken: str = ""
    """Not even a config."""
    seconds: float = 0.0

    @property
    def state(self) -> str:
        if self.left_out:
            return "left out"
        if not self.broken and all(outcome.good for outcome in self.outcomes):
            return "passed"
        asked = self.broken or any(outcome.status in ("failed", "xpassed") for outcome in self.outcomes)
        return "failed" if asked else "not checked"

    @property
    def text(self) -> str:
        """In a few words."""
        return self.left_out or self.broken or f"{_counted(self.outcomes)} in {self.seconds:.1f} s"


def _check_one(terminal: Terminal, entry: "RegisteredComponent", options: Mapping[str, Any]) -> bool:
    """A line a check, as they are run. Raises InputError when it cannot be checked at all."""
    from ddpmkit.testing import conformance_checks

    try:
        checks = conformance_checks(entry, **options)
    except PluginError as error:
        terminal.show_error(error)
        return False
    terminal.out.print(Text.assemble((f"{entry.kind} {entry.use}", "bold"), f"  {entry.origin}"))
    column = max(len(item.id) for item in checks)
    outcomes = []
    for item in checks:
        outcomes.append(outcome := _outcome(item))
        terminal.out.print(Text.assemble("  ", _MARKS[outcome.status], f" {item.id:<{column}}  ", _said(outcome)))
        _show_facts(terminal, outcomes)
    terminal.out.print(f"\n{_counted(outcomes)}", style="bold")
    return all(outcome.good for outcome in outcomes)


def _check_all(terminal: Terminal, entries: Sequence["RegisteredComponent"]) -> bool:
    """A line a component, below it what is wrong with it."""
    width = max((len(entry.use) for entry in entries), default=0)
    kind_width = max((len(entry.kind) for entry in entries), default=0)
    origin_width = max((len(entry.origin) for entry in entries), default=0)
    states = []
    for entry in entries:
        row = _row(entry)
        states.append(row.state)
        columns = f" {entry.kind:<{kind_width}}  {entry.use:<{width}}  "
        origin = (f"{entry.origin:<{origin_width}}  ", "dim")
        terminal.out.print(Text.assemble(_MARKS[row.state], columns, origin, row.text))
        for number, outcome in enumerate(row.outcomes, 1):
            if outcome.facts():
                head = f" {outcome.rule.id}  {_WORDS[outcome.status]}"
                terminal.out.print(Text.assemble("  ", _MARKS[outcome.status], head))
                _show_facts(terminal, row.outcomes[:number])
    order = ("passed", "failed", "not checked", "left out")
    counts = [f"{states.count(state)} {state}" for state in order if state in states]
    terminal.out.print(f"\n{len(entries)} components: {', '.join(counts) or 'nothing to check'}", style="bold")
    if "left out" in states:
        terminal.show_note("ddpmkit plugins check NAME [--set KEY=VALUE] checks one of those left out, or says why not")
    return not {"failed", "not checked"} & set(states)


def _row(entry: "RegisteredComponent") -> _Row:
    from ddpmkit.recipe import RecipeError
    from ddpmkit.testing import conformance_checks

    if entry.kind == "tracker":
        return _Row(left_out=_CAUTION)
    began = time.perf_counter()
    try:
        outcomes = tuple(_outcome(item) for item in conformance_checks(entry))
    except PluginError as error:
        return _Row(broken=error.message)
    except ComponentUnavailable as error:
        return _Row(left_out=textwrap.shorten(f"it cannot work here: {error.message}", 100, placeholder=" ..."))
    except RecipeError as error:
        return _Row(left_out="; ".join(problem.message for problem in error.problems))
    return _Row(outcomes, seconds=time.perf_counter() - began)


def _outcome(item: "Check") -> "Outcome":
    """What it prints meanwhile is told by the check that it should not."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return item.outcome()


def _counted(outcomes: Sequence["Outcome"]) -> str:
    found = [outcome.status for outcome in outcomes]
    return ", ".join(f"{found.count(status)} {word}" for status, word in _WORDS.items() if status in found)


def _said(outcome: "Outcome") -> tuple[str, str]:
    """Words and style."""
    match outcome.status:
        case "passed":
            return outcome.rule.question, "dim"
        case "not applicable":
            return f"not applicable: {outcome.seen}", "dim"
    return _WORDS[outcome.status], ""


def _show_facts(terminal: Terminal, outcomes: Sequence["Outcome"]) -> None:
    """Of the last one; what stands in the way of many checks is told at the first of them."""
    *before, outcome = outcomes
    if outcome.status == "not checked" and any(outcome.facts() == other.facts() for other in before):
        return
    for label, text in outcome.facts():
        first, *rest = terminal.lines(text, indent=15)
        terminal.out.print(Text.assemble("      ", (f"{label:<7}", "dim"), f"  {first}"))
        for line in rest:
            terminal.out.print(" " * 15 + line)
    if terminal.verbose and outcome.traceback:
        terminal.out.print(textwrap.indent(outcome.traceback.rstrip(), " " * 6))


def _settings(texts: Sequence[str]) -> dict[str, Any]:
    """The config keys that `--set` gives. Raises RecipeError with what is malformed."""
    from ddpmkit.recipe import Problem, RecipeError
    from ddpmkit.recipe.layers import Layered
    from ddpmkit.recipe.overrides import parse_override

    tree = Layered("--set")
    for item in map(parse_override, texts):
        if isinstance(item, Problem):
            tree.problems.append(item)
        else:
            tree.override(item)
    if tree.problems:
        raise RecipeError(tree.problems)
    return tree.values


def _excuses(texts: Sequence[str]) -> dict[str, str]:
    """Reasons by check."""
    return dict(_excuse(text) for text in texts)


def _excuse(text: str) -> tuple[str, str]:
    name, equals, reason = text.partition("=")
    if not equals:
        raise click.UsageError(f"--xfail {text} is not of the form ID=REASON.")
    return name, reason
