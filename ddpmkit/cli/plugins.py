"""`ddpmkit plugins`: what is installed, what each component takes, whether it behaves.

It does not know what a component does.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ddpmkit.cli.options import PluginChoice, plugin_options
from ddpmkit.cli.terminal import Terminal, aligned
from ddpmkit.contracts import KINDS
from ddpmkit.errors import InputError, PluginError

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
    use_width = max((len(entry.use) for entry in found.components), default=0)
    origin_width = max((len(entry.origin) for entry in found.components), default=0)
    for kind in KINDS:
        terminal.out.print(kind, style="bold")
        for entry in found.components:
            if entry.kind == kind:
                summary = entry.component.summary
                terminal.out.print(f"  {entry.use:<{use_width}}  {entry.origin:<{origin_width}}  {summary}")
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
    from ddpmkit.recipe.expectation import Expectations

    for entry in _named(plugins.registry(), name, kind):
        component, keys = entry.component, Expectations(entry.config_model())
        terminal.out.print(f"{entry.kind} {entry.use}", style="bold")
        facts = {
            "summary": component.summary,
            "from": entry.origin,
            "target": component.target,
            "api": str(component.api),
            "requires": ", ".join(component.requires),
            "provides": ", ".join(component.provides),
            "needs": ", ".join(component.needs),
        }
        for line in aligned([(label, fact) for label, fact in facts.items() if fact]):
            terminal.out.print(line)
        terminal.out.print("  keys" if keys.names else "  no keys")
        for key in keys.names:
            terminal.out.print(f"    {keys.described((key,))}")
            terminal.out.print(f"        {keys.purpose((key,)) or 'undocumented'}", style="dim")


@plugins.command()
@click.argument("name", required=False)
@_kind
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="A key of the named component, as in root=data/afhq. May be repeated.",
)
@plugin_options
@click.pass_context
def check(
    ctx: click.Context, name: str | None, kind: str | None, settings: tuple[str, ...], plugins: PluginChoice
) -> None:
    """Run the conformance checks of a component, or of all that work without settings.

    Trackers are checked only when named, for they may publish what they are told. Exit code 1 when a check fails.

    \b
    ddpmkit plugins check image-folder --set root=data/afhq
    """
    terminal: Terminal = ctx.obj
    registry = plugins.registry()
    if name is None and settings:
        raise click.UsageError("--set needs the name of the component that it is for.")
    entries = _named(registry, name, kind) if name else [entry for k in KINDS for entry in registry.of_kind(k)]
    failed = 0
    for entry in entries:
        title = f"{entry.kind} {entry.use}"
        if name is None and entry.kind == "tracker":
            terminal.out.print(f"- {title}: checked only when named")
            continue
        try:
            failed += _failures(terminal, entry, _settings(settings))
        except PluginError as error:
            failed += 1
            terminal.out.print(f"✗ {error}", style="red")
        except InputError as error:
            if name:
                raise
            terminal.out.print(f"- {title}: not checked: {error.message}")
    if failed:
        ctx.exit(1)


def _failures(terminal: Terminal, entry: "RegisteredComponent", settings: Mapping[str, Any]) -> int:
    """Run and print the checks of one component; how many fail."""
    from ddpmkit.testing import ConformanceError, conformance_checks

    failed = 0
    for item in conformance_checks(entry, settings=settings):
        try:
            item.run()
        except ConformanceError as error:
            failed += 1
            terminal.out.print(f"✗ {entry.kind} {entry.use}: {error}", style="red")
        else:
            terminal.out.print(f"✓ {entry.kind} {entry.use}: {item.id}")
    return failed


def _settings(texts: Sequence[str]) -> dict[str, Any]:
    """The config keys that `--set` gives. Raises RecipeError with what is malformed."""
    from ddpmkit.recipe import Problem, RecipeError
    from ddpmkit.recipe.overrides import parse_override

    parsed = [parse_override(text) for text in texts]
    if problems := [item for item in parsed if isinstance(item, Problem)]:
        raise RecipeError(problems)
    return {".".join(item.key): item.value for item in parsed if not isinstance(item, Problem)}


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
