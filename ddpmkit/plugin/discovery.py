"""`discover`: finds and loads all plugins."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddpmkit.environment import disabled_plugins
from ddpmkit.plugin.finder import LOCAL_NAMESPACE, FoundPlugin, find_plugin_file, find_plugins
from ddpmkit.plugin.loader import BrokenPlugin, LoadedPlugin, load_plugin, new_plugin_manager
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.plugin.registry import Registry

__all__ = ["Discovery", "discover"]


@dataclass(frozen=True)
class Discovery:
    """All plugins that were found: loaded, broken and disabled ones."""

    plugins: tuple[LoadedPlugin, ...]
    broken: tuple[BrokenPlugin, ...]
    disabled: tuple[FoundPlugin, ...] = ()
    """Not imported, because of `DDPMKIT_DISABLE_PLUGINS` or `--no-plugins`."""
    warnings: tuple[str, ...] = ()
    """One for each name in `DDPMKIT_DISABLE_PLUGINS` that matches no plugin."""

    @property
    def components(self) -> tuple[RegisteredComponent, ...]:
        """Every component, sorted by kind and id. Components with the same id are all included."""
        components = [component for plugin in self.plugins for component in plugin.components]
        return tuple(sorted(components, key=lambda entry: (entry.kind, entry.id)))

    def registry(self) -> Registry:
        """Return the registry of these components. Raises PluginError if two components have the same kind and id."""
        return Registry.from_components(self.components, broken=self.broken, disabled=self.disabled)


def discover(local_files: Sequence[Path] = (), *, third_party: bool = True) -> Discovery:
    """Find and load the installed plugins, and `local_files` as single-file plugins.

    With `third_party=False`, all installed plugins except the built-ins are disabled. Raises InputError if a file does
    not exist.
    """
    names = disabled_plugins()
    enabled: list[FoundPlugin] = []
    disabled: list[FoundPlugin] = []
    found = (*find_plugins(), *dict.fromkeys(map(find_plugin_file, local_files)))
    for plugin in found:
        off = not names.isdisjoint((plugin.entry_name, plugin.namespace)) or (plugin.third_party and not third_party)
        (disabled if off else enabled).append(plugin)
    manager = new_plugin_manager()
    results = [load_plugin(plugin, manager) for plugin in enabled]
    return Discovery(
        tuple(result for result in results if isinstance(result, LoadedPlugin)),
        tuple(result for result in results if isinstance(result, BrokenPlugin)),
        tuple(disabled),
        tuple(_unmatched(names, found)),
    )


def _unmatched(names: Iterable[str], found: Iterable[FoundPlugin]) -> Iterator[str]:
    """Yield a warning for each of `names` that is neither an entry name nor a namespace."""
    known = {name for plugin in found for name in (plugin.entry_name, plugin.namespace)}
    for name in sorted(set(names) - known):
        if name.partition(".")[0] == LOCAL_NAMESPACE:
            continue  # the files given differ from one command to the next
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "run `ddpmkit plugins list` to see what is installed"
        yield f"DDPMKIT_DISABLE_PLUGINS contains {name!r}, but no such plugin is installed; {hint}"
