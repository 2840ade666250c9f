"""From installed distributions to a registry, in three steps: find, load, classify.

Each step is a function on immutable records. A plugin that breaks on the way is set aside with its traceback and
harms no other. This module does not know what components do.
"""

import difflib
import hashlib
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from ddpmkit.environment import disabled_plugins
from ddpmkit.errors import InputError
from ddpmkit.plugin import hookspecs
from ddpmkit.plugin.component import Component
from ddpmkit.plugin.registry import BUILTIN_NAMESPACE, Quarantined, RegisteredComponent, Registry

if TYPE_CHECKING:
    import click

__all__ = ["ENTRY_POINT_GROUP", "Discovery", "FoundPlugin", "LoadedPlugin", "discover", "find", "load"]

ENTRY_POINT_GROUP = "ddpmkit.plugins"
LOCAL_NAMESPACE = "local"
_HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("ddpmkit_"))


@dataclass(frozen=True)
class FoundPlugin:
    """A plugin known by name only: nothing of it has been imported."""

    entry_name: str
    module: str
    distribution: str
    version: str
    path: Path | None = None
    """The file of an unpackaged plugin (`--plugin ./file.py`)."""

    @property
    def namespace(self) -> str:
        """The enforced namespace: what stands before the first dot of the entry name."""
        return self.entry_name.partition(".")[0]

    def set_aside(self, reason: str, error: BaseException | None = None) -> Quarantined:
        """The record of why this plugin cannot be used."""
        text = "".join(traceback.format_exception(error)) if error is not None else ""
        return Quarantined(self.entry_name, self.distribution, self.version, reason, text)


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin whose module was imported and whose hooks were called."""

    found: FoundPlugin
    components: tuple[RegisteredComponent, ...]
    commands: tuple["click.Command", ...]


@dataclass(frozen=True)
class Discovery:
    """All that is installed: what works, what was set aside, what was switched off."""

    plugins: tuple[LoadedPlugin, ...]
    quarantined: tuple[Quarantined, ...]
    disabled: tuple[FoundPlugin, ...] = ()

    def registry(self) -> Registry:
        """The table of components. Raises PluginError on a name claimed twice."""
        components = [component for plugin in self.plugins for component in plugin.components]
        return Registry.from_components(components, quarantined=self.quarantined)


def discover(local_files: Sequence[Path] = (), *, third_party: bool = True) -> Discovery:
    """Find and load everything: installed plugins, and the files given.

    `third_party=False` keeps to the built-ins and the files. Raises InputError when a file is not there.
    """
    found = [*find(), *(_find_file(path) for path in local_files)]
    disabled = disabled_plugins()
    wanted: list[FoundPlugin] = []
    dropped: list[FoundPlugin] = []
    for plugin in found:
        off = {plugin.entry_name, plugin.namespace} & disabled
        foreign = plugin.namespace not in (BUILTIN_NAMESPACE, LOCAL_NAMESPACE) and not third_party
        (dropped if off or foreign else wanted).append(plugin)
    results = [load(plugin) for plugin in wanted]
    return Discovery(
        tuple(result for result in results if isinstance(result, LoadedPlugin)),
        tuple(result for result in results if isinstance(result, Quarantined)),
        tuple(dropped),
    )


def find() -> tuple[FoundPlugin, ...]:
    """Every entry point of the group, by name, without importing any of it."""
    found = {
        FoundPlugin(
            entry.name,
            entry.value,
            entry.dist.name if entry.dist else "an unknown distribution",
            entry.dist.version if entry.dist else "0",
        )
        for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    }
    return tuple(sorted(found, key=lambda plugin: (plugin.entry_name, plugin.distribution)))


def load(plugin: FoundPlugin) -> LoadedPlugin | Quarantined:
    """Import one plugin, call its hooks and check what it declares; set it aside if any of that fails."""
    if not _may_use_namespace(plugin):
        return plugin.set_aside(f"the namespace {plugin.namespace!r} is not open to {plugin.distribution}")
    try:
        module = _import(plugin)
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        manager.register(module, name=plugin.entry_name)
        _refuse_misspelt_hooks(module)
        manager.check_pending()
        components = _flatten(manager.hook.ddpmkit_components())
        commands = _flatten(manager.hook.ddpmkit_commands())
        registered = tuple(_register(plugin, component) for component in components)
    except (Exception, SystemExit) as error:
        return plugin.set_aside(f"{type(error).__name__}: {error}", error)
    return LoadedPlugin(plugin, tuple(sorted(registered, key=lambda entry: (entry.kind, entry.id))), tuple(commands))


def _may_use_namespace(plugin: FoundPlugin) -> bool:
    if plugin.path is not None:
        return True
    if plugin.namespace == BUILTIN_NAMESPACE:
        return plugin.distribution == BUILTIN_NAMESPACE
    return plugin.namespace != LOCAL_NAMESPACE


def _find_file(path: Path) -> FoundPlugin:
    if not path.is_file():
        raise InputError(f"--plugin {path}: no such file (looked for {path.resolve()}).")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    module = f"ddpmkit_local_{digest[:12]}"
    return FoundPlugin(f"{LOCAL_NAMESPACE}.{path.stem}", module, str(path), f"sha256:{digest}", path)


def _import(plugin: FoundPlugin) -> ModuleType:
    if plugin.path is None:
        return importlib.import_module(plugin.module)
    if plugin.module in sys.modules:
        return sys.modules[plugin.module]
    spec = importlib.util.spec_from_file_location(plugin.module, plugin.path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{plugin.path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs, so that the plugin's own `f"{__name__}:Class"` references resolve.
    sys.modules[plugin.module] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[plugin.module]
        raise
    return module


def _refuse_misspelt_hooks(module: ModuleType) -> None:
    """pluggy sees only functions that carry the marker; one that lacks it would be skipped silently."""
    for name, member in vars(module).items():
        if not (name.startswith("ddpmkit_") and callable(member)):
            continue
        if name not in _HOOKS:
            close = difflib.get_close_matches(name, _HOOKS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise NameError(f"{module.__name__}.{name} is no hook of ddpmkit{hint} Hooks are {', '.join(_HOOKS)}")
        if not hasattr(member, f"{hookspecs.PROJECT}_impl"):
            raise TypeError(f"{module.__name__}.{name} lacks the @hookimpl marker")


def _flatten(results: Iterable[Iterable[Any]]) -> list[Any]:
    return [item for result in results for item in result]


def _register(plugin: FoundPlugin, component: object) -> RegisteredComponent:
    if not isinstance(component, Component):
        raise TypeError(f"ddpmkit_components yielded {component!r}, which is no Component")
    return RegisteredComponent(component, plugin.namespace, plugin.distribution, plugin.version)
