"""The commands that plugins add to `ddpmkit`: finds them, and rejects those whose name is taken."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ddpmkit.plugin.discovery import Discovery
    from ddpmkit.plugin.finder import FoundPlugin

__all__ = ["PluginCommand", "find_commands", "rejections", "unloaded_plugins", "usable_commands"]


@dataclass(frozen=True)
class PluginCommand:
    """A command, the plugin that adds it, and why it cannot be used (None if it can)."""

    name: str
    plugin: "FoundPlugin"
    command: click.Command
    problem: str | None


def find_commands(discovery: "Discovery", ours: Collection[str]) -> tuple[PluginCommand, ...]:
    """Return every command of a plugin, by name; `ours` are the reserved names."""
    offers = [
        (command.name or "", plugin.found, command) for plugin in discovery.plugins for command in plugin.commands
    ]
    times = Counter(name for name, _, _ in offers)

    def problem(name: str, plugin: "FoundPlugin") -> str | None:
        if plugin.path is not None:
            return "only installed plugins can add commands"
        if name in ours:
            return "the name is taken by ddpmkit itself"
        return "the name is also used by another plugin, which is rejected too" if times[name] > 1 else None

    return tuple(
        PluginCommand(name, plugin, command, problem(name, plugin))
        for name, plugin, command in sorted(offers, key=lambda offer: offer[0])
    )


def usable_commands(commands: Collection[PluginCommand]) -> Mapping[str, click.Command]:
    """Return the usable commands by name."""
    return {one.name: one.command for one in commands if one.problem is None}


def rejections(commands: Collection[PluginCommand]) -> list[str]:
    """Return a message for each command that cannot be used."""
    return [
        f"command {one.name!r} of plugin {one.plugin} is rejected: {one.problem}"
        for one in commands
        if one.problem is not None
    ]


def unloaded_plugins(discovery: "Discovery") -> Iterator[str]:
    """Yield the plugins that were not loaded, whose commands are therefore unknown, each with the reason."""
    for broken in discovery.broken:
        yield f"{broken.plugin}, which failed to load: {broken.reason}"
    for plugin in discovery.disabled:
        if plugin.third_party:
            yield f"{plugin}, which is disabled"
