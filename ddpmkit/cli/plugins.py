"""`ddpmkit plugins`: what is installed, what each component takes, whether it behaves.

It does not know what a component does.
"""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ddpmkit.cli.options import PluginChoice, plugin_options
from ddpmkit.cli.terminal import Terminal, aligned
from ddpmkit.contracts import KINDS

if TYPE_CHECKING:
    from ddpmkit.plugin.registry import RegisteredComponent, Registry

__all__ = ["plugins"]

_kind = click.option("--kind", type=click.Choice(KINDS), help="Which kind, where two components share a name.")


@click.group()
def plugins() -> None:
    """List, show and check components."""


@plugins.command(name="list")
@plugin_options
@click.pass_obj
def list_(terminal: Terminal, plugins: PluginChoice) -> None:
    """List every component by kind, and the plugins that had to be set aside."""
    from ddpmkit.plugin.registry import clashes

    found = plugins.discover()
    widths = [max(map(len, column)) for column in zip(("", ""), *map(_columns, found.components), strict=True)]
    for kind in KINDS:
        terminal.out.print(kind, style="bold")
        for entry in found.components:
            if entry.kind != kind:
                continue
            use, origin = _columns(entry)
            terminal.out.print(f"  {use:<{widths[0]}}  {origin:<{widths[1]}}  {entry.component.summary}")
    _print_section(terminal, "claimed more than once: no recipe can be read", clashes(found.components), "bold red")
    aside = [f"{broken}\n{broken.traceback}" if terminal.verbose else broken for broken in found.quarantined]
    _print_section(terminal, "set aside (ddpmkit -v plugins list shows the tracebacks)", aside, "bold red")
    _print_section(terminal, "switched off", found.disabled, "bold")


@plugins.command()
@click.argument("name")
@_kind
@plugin_options
@click.pass_obj
def show(terminal: Terminal, name: str, kind: str | None, plugins: PluginChoice) -> None:
    """Show what a component is and the keys it takes.

    \b
    ddpmkit plugins show attention-unet
    """
    from ddpmkit.recipe import described_keys

    for entry in _named(plugins.registry(), name, kind):
        component = entry.component
        terminal.out.print(f"{entry.kind} {entry.use}", style="bold")
        facts = [("summary", component.summary), ("from", entry.origin), ("target", component.target)]
        facts += [(label, ", ".join(values)) for label, values in _capabilities(entry).items() if values]
        for line in aligned(facts):
            terminal.out.print(line)
        keys = list(described_keys(entry.config_model()))
        terminal.out.print("  keys" if keys else "  no keys")
        for key, default, limits, description in keys:
            terminal.out.print(f"    {key} = {default}{f'    # {limits}' if limits else ''}")
            terminal.out.print(f"        {description}", style="dim")


@plugins.command()
@click.argument("name", required=False)
@_kind
@plugin_options
@click.pass_context
def check(ctx: click.Context, name: str | None, kind: str | None, plugins: PluginChoice) -> None:
    """Run the conformance checks of a component, or of all that need no settings.

    Exit code 1 when one fails.
    """
    from pydantic import ValidationError

    from ddpmkit.testing import ConformanceError, conformance_checks

    terminal: Terminal = ctx.obj
    registry = plugins.registry()
    entries = _named(registry, name, kind) if name else [entry for k in KINDS for entry in registry.of_kind(k)]
    failed = 0
    for entry in entries:
        try:
            checks = conformance_checks(entry)
        except ValidationError as error:
            keys = ", ".join(str(problem["loc"][0]) for problem in error.errors() if problem["loc"])
            terminal.out.print(f"- {entry.kind} {entry.use}: not checked, it cannot be built without {keys}")
            continue
        for item in checks:
            try:
                item.run()
            except ConformanceError as error:
                failed += 1
                terminal.out.print(f"✗ {entry.kind} {entry.use}: {error}", style="red")
            else:
                terminal.out.print(f"✓ {entry.kind} {entry.use}: {item.id}")
    if failed:
        ctx.exit(1)


def _named(registry: "Registry", name: str, kind: str | None) -> list["RegisteredComponent"]:
    """Every component of that name. Raises PluginError with suggestions when there is none."""
    kinds = [kind] if kind else KINDS
    found = [entry for k in kinds for entry in registry.of_kind(k) if name in (entry.use, entry.id)]
    return found or [registry.get(_nearest_kind(registry, name, kinds), name)]


def _nearest_kind(registry: "Registry", name: str, kinds: Sequence[str]) -> str:
    """The kind whose names come closest, so that the suggestions help."""

    def likeness(kind: str) -> float:
        names = [entry.use for entry in registry.of_kind(kind)]
        return max((difflib.SequenceMatcher(None, name, other).ratio() for other in names), default=0.0)

    return max(kinds, key=likeness)


def _print_section(terminal: Terminal, title: str, items: Sequence[object], style: str) -> None:
    if items:
        terminal.out.print(title, style=style)
    for item in items:
        terminal.out.print(f"  {item}")


def _columns(entry: "RegisteredComponent") -> tuple[str, str]:
    return entry.use, entry.origin


def _capabilities(entry: "RegisteredComponent") -> dict[str, tuple[str, ...]]:
    component = entry.component
    return {"requires": component.requires, "provides": component.provides, "needs": component.needs}
