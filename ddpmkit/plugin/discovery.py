"""From installed distributions to a registry, in three steps: find, load, classify.

Each step is a function on immutable records. A plugin that breaks on the way is set aside with its traceback and
harms no other. This module does not know what components do.
"""

import contextlib
import difflib
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pluggy

from ddpmkit.environment import disabled_plugins
from ddpmkit.errors import InputError, worded
from ddpmkit.global_state import StateKeeper
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plugin import hookspecs
from ddpmkit.plugin.component import Component, is_reference
from ddpmkit.plugin.fault_location import place_of_fault
from ddpmkit.plugin.plugin_source import FILE_HASH, LOCAL_NAMESPACE, FoundPlugin
from ddpmkit.plugin.registry import Quarantined, RegisteredComponent, Registry

__all__ = ["ENTRY_POINT_GROUP", "Discovery", "FoundPlugin", "LoadedPlugin", "discover", "find", "find_file", "load"]

ENTRY_POINT_GROUP = "ddpmkit.plugins"
_IMPORT_OF_TORCH = re.compile(rb"^(?:import|from)\b.*\btorch\b", re.MULTILINE)
_HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("ddpmkit_"))


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin whose module was imported and whose hooks were called."""

    found: FoundPlugin
    components: tuple[RegisteredComponent, ...]
    commands: tuple[click.Command, ...]
    diagnoses: tuple[str, ...] = ()
    """References to functions, for `ddpmkit doctor`."""


@dataclass(frozen=True)
class Discovery:
    """All that is installed: what works, what was set aside, what was switched off."""

    plugins: tuple[LoadedPlugin, ...]
    quarantined: tuple[Quarantined, ...]
    disabled: tuple[FoundPlugin, ...] = ()
    misnamed: tuple[str, ...] = ()
    """A sentence for each name that was to be switched off, and is none."""

    @property
    def components(self) -> tuple[RegisteredComponent, ...]:
        """Every component by kind and id, those included that claim one name."""
        components = [component for plugin in self.plugins for component in plugin.components]
        return tuple(sorted(components, key=lambda entry: (entry.kind, entry.id)))

    def registry(self) -> Registry:
        """The table of components. Raises PluginError on a name claimed twice."""
        return Registry.from_components(self.components, quarantined=self.quarantined, disabled=self.disabled)


class _Refusal(Exception):
    """What a plugin declares cannot be used. The message says it all, so no traceback is kept."""


def discover(local_files: Sequence[Path] = (), *, third_party: bool = True) -> Discovery:
    """Find and load everything: installed plugins, and the files given.

    `third_party=False` keeps to the built-ins and the files. Raises InputError when a file is not there.
    """
    named = disabled_plugins()
    wanted: list[FoundPlugin] = []
    disabled: list[FoundPlugin] = []
    found = (*find(), *dict.fromkeys(map(find_file, local_files)))
    for plugin in found:
        off = not named.isdisjoint((plugin.entry_name, plugin.namespace)) or (plugin.third_party and not third_party)
        (disabled if off else wanted).append(plugin)
    results = [load(plugin) for plugin in wanted]
    return Discovery(
        tuple(result for result in results if isinstance(result, LoadedPlugin)),
        tuple(result for result in results if isinstance(result, Quarantined)),
        tuple(disabled),
        tuple(_misnamed(named, found)),
    )


def find() -> tuple[FoundPlugin, ...]:
    """Every entry point of the group, sorted by name, without importing any of it."""
    found = {_found(entry) for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}
    return tuple(sorted(found, key=lambda plugin: (plugin.entry_name, plugin.distribution, plugin.module)))


def find_file(path: Path) -> FoundPlugin:
    """An unpackaged plugin, known by its content. Raises InputError when it is not there."""
    if not path.is_file():
        raise InputError(f"--plugin {path}: no such file (looked for {path.absolute()}).")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    module = f"ddpmkit_local_{digest}"
    return FoundPlugin(f"{LOCAL_NAMESPACE}.{path.stem}", module, str(path), f"{FILE_HASH}{digest}", path)


def load(plugin: FoundPlugin) -> LoadedPlugin | Quarantined:
    """Import one plugin, call its hooks and check what it declares; set it aside if any of that fails."""
    if (objection := plugin.objection()) is not None:
        return Quarantined(plugin, objection)
    try:
        _import_torch_before(plugin)
        with StateKeeper().around(f"plugin {plugin}"):
            module = _import(plugin)
            _refuse_misspelt_hooks(module)
            manager = pluggy.PluginManager(hookspecs.PROJECT)
            manager.add_hookspecs(hookspecs)
            manager.register(module, name=plugin.entry_name)
            manager.check_pending()
            hook = manager.hook
            results = (hook.ddpmkit_components(), hook.ddpmkit_commands(), hook.ddpmkit_diagnoses())
        return _declared(plugin, *map(_flatten, results))
    except _Refusal as refusal:
        return Quarantined(plugin, str(refusal), place=place_of_fault(plugin))
    except BaseException as error:
        if is_interrupt(error):
            raise
        # On one line, as every other reason is; the traceback keeps the text as it was.
        reason = " ".join(worded(error).split())
        place = place_of_fault(plugin, error)
        return Quarantined(plugin, reason, "".join(traceback.format_exception(error)), place)


def _misnamed(named: Iterable[str], found: Iterable[FoundPlugin]) -> Iterator[str]:
    known = {name for plugin in found for name in (plugin.entry_name, plugin.namespace)}
    for name in sorted(set(named) - known):
        if name.partition(".")[0] == LOCAL_NAMESPACE:
            continue  # whether a file is given differs from one command to the next
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "ddpmkit plugins list shows what is installed"
        yield f"DDPMKIT_DISABLE_PLUGINS names {name!r}, and no plugin here is called that; {hint}"


def _found(entry: importlib.metadata.EntryPoint) -> FoundPlugin:
    facts: dict[str, str] = {}
    editable = False
    if entry.dist is not None:
        editable = _is_editable(entry.dist)
        # An interrupted uninstall leaves entry points behind without the metadata that names them.
        facts = {key: entry.dist.metadata[key] for key in ("Name", "Version") if key in entry.dist.metadata}
    name, version = facts.get("Name", "unknown"), facts.get("Version", "unknown")
    return FoundPlugin(entry.name, entry.value, name, version, editable=editable)


def _is_editable(distribution: importlib.metadata.Distribution) -> bool:
    """Whether pip noted so: PEP 610."""
    try:
        return bool(json.loads(distribution.read_text("direct_url.json") or "{}")["dir_info"]["editable"])
    except (ValueError, KeyError, TypeError):
        return False


def _import(plugin: FoundPlugin) -> ModuleType:
    if plugin.path is None:
        return importlib.import_module(plugin.module)
    if plugin.module in sys.modules:
        return sys.modules[plugin.module]
    spec = importlib.util.spec_from_file_location(plugin.module, plugin.path)
    if spec is None or spec.loader is None:
        raise _Refusal(f"{plugin.path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs, so that the plugin's own `f"{__name__}:Class"` references resolve.
    sys.modules[plugin.module] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[plugin.module]
        raise
    return module


def _import_torch_before(plugin: FoundPlugin) -> None:
    """Import torch if the plugin's file imports it at its top: its settings must be read before the file runs."""
    if plugin.path is not None and _IMPORT_OF_TORCH.search(plugin.path.read_bytes()):
        with contextlib.suppress(ImportError):  # the import in the file fails as well, and is reported with its line
            importlib.import_module("torch")


def _refuse_misspelt_hooks(module: ModuleType) -> None:
    """pluggy sees only functions that carry the marker; one that lacks it would be skipped silently."""
    for name, member in vars(module).items():
        if not (name.startswith("ddpmkit_") and callable(member)):
            continue
        if name not in _HOOKS:
            close = difflib.get_close_matches(name, _HOOKS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"hooks are {', '.join(_HOOKS)}"
            raise _Refusal(f"{name} is no hook of ddpmkit; {hint}")
        if not hasattr(member, f"{hookspecs.PROJECT}_impl"):
            raise _Refusal(f"{name} lacks the @hookimpl marker")


def _flatten(results: Iterable[Iterable[Any]]) -> list[Any]:
    return [item for result in results for item in result]


def _declared(plugin: FoundPlugin, components: list[Any], commands: list[Any], diagnoses: list[Any]) -> LoadedPlugin:
    """What the hooks yielded, once it is known to be what they must yield."""
    for hook, kind, items in (
        ("components", Component, components),
        ("commands", click.Command, commands),
        ("diagnoses", str, diagnoses),
    ):
        if strange := [item for item in items if not isinstance(item, kind)]:
            raise _Refusal(f"ddpmkit_{hook} yielded {strange[0]!r}, which is no {kind.__name__}")
    if malformed := [text for text in diagnoses if not is_reference(text)]:
        raise _Refusal(f"ddpmkit_diagnoses yielded {malformed[0]!r}, which is no 'package.module:function'")
    if not components and not commands and not diagnoses:
        raise _Refusal(f"it offers nothing: it has no hook ({' or '.join(_HOOKS)}) that yields something")
    for (kind, name), times in Counter((component.kind, component.name) for component in components).items():
        if times > 1:
            raise _Refusal(f"it declares the {kind} {name!r} {times} times")
    registered = tuple(RegisteredComponent(component, plugin) for component in components)
    return LoadedPlugin(plugin, registered, tuple(commands), tuple(diagnoses))
