"""`ddpmkit plugins list` and `ddpmkit plugins show`: the installed components, and the keys of one of them."""

from collections.abc import Sequence

import click

from ddpmkit.cli.options import PluginChoice, plugin_options
from ddpmkit.cli.plugins.lookup import find_components, kind_option
from ddpmkit.cli.terminal import Terminal, aligned
from ddpmkit.cli.third_party_commands import find_commands, rejections
from ddpmkit.contracts import KINDS

__all__ = ["list_", "show"]


@click.command(name="list")
@plugin_options
@click.pass_obj
def list_(terminal: Terminal, plugins: PluginChoice) -> None:
    """List all components by kind, commands and diagnoses of plugins, and plugins that failed to load."""
    from ddpmkit.cli.root import COMMANDS
    from ddpmkit.plugin.registry import name_conflicts

    found = plugins.discover()
    commands = find_commands(found, COMMANDS)
    rows = [(entry.kind, entry.use, entry.origin, entry.component.summary) for entry in found.components]
    rows += [
        ("command", one.name, one.plugin.origin, one.command.get_short_help_str(100))
        for one in commands
        if one.problem is None
    ]
    rows += [
        ("diagnosis", plugin.found.entry_name, plugin.found.origin, reference)
        for plugin in found.plugins
        for reference in plugin.diagnoses
    ]
    use_width, origin_width = (max((len(row[column]) for row in rows), default=0) for column in (1, 2))
    for title in dict.fromkeys((*KINDS, *(title for title, *_ in rows))):
        terminal.out.print(title, style="bold")
        for _, use, origin, summary in (row for row in rows if row[0] == title):
            terminal.out.print(f"  {use:<{use_width}}  {origin:<{origin_width}}  {summary}")
    _print_section(terminal, "name conflicts: no recipe can be read", name_conflicts(found.components), "bold red")
    failed = [f"{broken}\n{broken.traceback}" if terminal.verbose else broken for broken in found.broken]
    _print_section(terminal, "failed to load (run `ddpmkit -v plugins list` to see the tracebacks)", failed, "bold red")
    _print_section(terminal, "rejected", rejections(commands), "bold red")
    _print_section(terminal, "disabled", found.disabled, "bold")
    _print_section(terminal, "not disabled", found.warnings, "bold red")


@click.command()
@click.argument("name")
@kind_option
@plugin_options
@click.pass_obj
def show(terminal: Terminal, name: str, kind: str | None, plugins: PluginChoice) -> None:
    """Show a component and its keys.

    \b
    ddpmkit plugins show attention-unet
    """
    from ddpmkit.recipe import KeyDescriptions

    for entry in find_components(plugins.registry(), name, kind):
        component, keys = entry.component, KeyDescriptions(entry.config_model())
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
            terminal.out.print(f"    {keys.full((key,))}")
            terminal.out.print(f"        {keys.purpose((key,)) or 'undocumented'}", style="dim")


def _print_section(terminal: Terminal, title: str, items: Sequence[object], style: str) -> None:
    if items:
        terminal.out.print(title, style=style)
    for item in items:
        terminal.out.print(f"  {item}")
