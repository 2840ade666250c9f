"""The commands that plugins offer: those that can be had, and those whose name is taken.

It does not know what they do.
"""

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
    """A command, the plugin that offers it, and why it cannot be had, where it cannot."""

    name: str
    plugin: "FoundPlugin"
    command: click.Command
    problem: str | None


def find_commands(discovery: "Discovery", ours: Collection[str]) -> tuple[PluginCommand, ...]:
    """Every command of a plugin, by name; `ours` are names that none of them may have."""
    offers = [
        (command.name or "", plugin.found, command) for plugin in discovery.plugins for command in plugin.commands
    ]
    times = Counter(name for name, _, _ in offers)

    def problem(name: str, plugin: "FoundPlugin") -> str | None:
        if plugin.path is not None:
            return "only what is installed can add commands"
        if name in ours:
            return "the name is taken by ddpmkit itself"
        return "the name is taken by another plugin, which is refused too" if times[name] > 1 else None

    return tuple(
        PluginCommand(name, plugin, command, problem(name, plugin))
        for name, plugin, command in sorted(offers, key=lambda offer: offer[0])
    )


def usable_commands(commands: Collection[PluginCommand]) -> Mapping[str, click.Command]:
    """Those that can be had, by name."""
    return {one.name: one.command for one in commands if one.problem is None}


def rejections(commands: Collection[PluginCommand]) -> list[str]:
    """A sentence for each that cannot."""
    return [
        f"command {one.name!r} of plugin {one.plugin} is refused: {one.problem}"
        for one in commands
        if one.problem is not None
    ]


def unloaded_plugins(discovery: "Discovery") -> Iterator[str]:
    """The plugins whose commands nobody knows, because they were not loaded, each with the reason."""
    for broken in discovery.broken:
        yield f"{broken.plugin}, which is set aside: {broken.reason}"
    for plugin in discovery.disabled:
        if plugin.third_party:
            yield f"{plugin}, which is switched off"
