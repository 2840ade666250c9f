"""`ddpmkit doctor`: check the installation."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.text import Text

from ddpmkit.cli.options import PluginChoice, plugin_options
from ddpmkit.cli.terminal import Terminal

if TYPE_CHECKING:
    from ddpmkit.plugin import Diagnosis

__all__ = ["doctor"]

_MARKS = {"ok": ("✓", "green"), "note": ("-", "yellow"), "problem": ("✗", "bold red")}
_COUNTED = {"problem": "problems", "note": "notes"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@plugin_options
@click.pass_context
def doctor(ctx: click.Context, as_json: bool, plugins: PluginChoice) -> None:
    """Check the installation of ddpmkit.

    Checks Python, packages, torch, device, disk space and plugins, and lists each problem with its fix. Exits with code
    1 if there is a problem.

    \b
    ddpmkit doctor
    ddpmkit -v doctor       show tracebacks
    """
    from ddpmkit.doctor import examine

    terminal: Terminal = ctx.obj
    with terminal.err.status("checking ..."):
        found = tuple(examine(plugins.discover()))
    if as_json:
        click.echo(json.dumps([asdict(diagnosis) for diagnosis in found], indent=2))
    else:
        _show(terminal, found)
    if any(diagnosis.state == "problem" for diagnosis in found):
        ctx.exit(1)


def _show(terminal: Terminal, found: Sequence["Diagnosis"]) -> None:
    """Print mark, subject and finding of each diagnosis in columns; remedies are not wrapped, so they can be copied."""
    column = max(len(diagnosis.subject) for diagnosis in found)
    indent = " " * (column + 4)
    for diagnosis in found:
        mark, style = _MARKS[diagnosis.state]
        first, *rest = terminal.lines(diagnosis.finding, len(indent))
        terminal.out.print(Text.assemble((mark, style), " ", (f"{diagnosis.subject:<{column}}", "bold"), f"  {first}"))
        for line in rest:
            terminal.out.print(f"{indent}{line}")
        for remedy in diagnosis.remedies:
            terminal.out.print(Text.assemble(("    - ", "dim"), remedy))
        if terminal.verbose and diagnosis.details:
            terminal.out.print(textwrap.indent(diagnosis.details.rstrip(), "    "), style="dim")
    terminal.out.print(f"\n{_summary(found)}", style="bold")
    if not terminal.verbose and any(diagnosis.details for diagnosis in found):
        terminal.show_note("run `ddpmkit -v doctor` to see the tracebacks")


def _summary(found: Sequence["Diagnosis"]) -> str:
    states = [diagnosis.state for diagnosis in found]
    counts = [
        f"{states.count(state)} {word if states.count(state) > 1 else word[:-1]}"
        for state, word in _COUNTED.items()
        if state in states
    ]
    return ", ".join(counts) if "problem" in states else ", ".join(["everything works", *counts])
