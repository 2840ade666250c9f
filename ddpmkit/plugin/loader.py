"""Loads one plugin: imports its module, calls its hooks and validates what they yield.

A plugin that fails becomes a `BrokenPlugin` with the reason and a traceback. It cannot stop another plugin.
"""

import contextlib
import difflib
import importlib
import importlib.util
import re
import sys
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import click
import pluggy

from ddpmkit.errors import error_text
from ddpmkit.global_state import SettingsGuard
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plugin import hookspecs
from ddpmkit.plugin.component import Component
from ddpmkit.plugin.fault_location import fault_location
from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.hookspecs import HOOKS, PROJECT
from ddpmkit.plugin.references import is_reference
from ddpmkit.plugin.registered_component import RegisteredComponent

__all__ = ["BrokenPlugin", "LoadedPlugin", "load_plugin", "new_plugin_manager"]

_IMPORT_OF_TORCH = re.compile(rb"^(?:import|from)\b.*\btorch\b", re.MULTILINE)


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin whose module was imported and whose hooks were called."""

    found: FoundPlugin
    components: tuple[RegisteredComponent, ...]
    commands: tuple[click.Command, ...]
    diagnoses: tuple[str, ...] = ()
    """References to the functions that `ddpmkit doctor` calls."""


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that was found and cannot be used."""

    plugin: FoundPlugin
    reason: str
    """One line."""
    traceback: str = ""
    """Empty if the plugin raised no exception."""
    place: str = ""
    """`file:line` of the fault, or the file."""

    def __str__(self) -> str:
        return f"{self.plugin}: {self.reason}"


class _InvalidPlugin(Exception):
    """A plugin declares something that cannot be used. The message is complete without a traceback."""


def new_plugin_manager() -> pluggy.PluginManager:
    """Return a manager that has the hooks of ddpmkit, and no plugin."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def load_plugin(plugin: FoundPlugin, manager: pluggy.PluginManager) -> LoadedPlugin | BrokenPlugin:
    """Import a plugin, register it with `manager`, call its hooks, and validate what they yield.

    Returns a `BrokenPlugin` if one of these four steps fails.
    """
    if (reason := plugin.invalid_reason()) is not None:
        return BrokenPlugin(plugin, reason)
    try:
        _import_torch_before(plugin)
        with SettingsGuard().guard(f"plugin {plugin}"):
            module = _import(plugin)
            _register(module, manager)
            components, commands, diagnoses = (_call_hook(manager, module, hook) for hook in HOOKS)
        return _validated(plugin, components, commands, diagnoses)
    except _InvalidPlugin as error:
        return BrokenPlugin(plugin, str(error), place=fault_location(plugin))
    except BaseException as error:
        if is_interrupt(error):
            raise
        reason = " ".join(error_text(error).split())
        place = fault_location(plugin, error)
        return BrokenPlugin(plugin, reason, "".join(traceback.format_exception(error)), place)


def _import_torch_before(plugin: FoundPlugin) -> None:
    """Import torch if the plugin's file imports it: `SettingsGuard` records torch's settings before the file runs."""
    if plugin.path is not None and _IMPORT_OF_TORCH.search(plugin.path.read_bytes()):
        with contextlib.suppress(ImportError):  # the import in the file fails as well, and is reported with its line
            importlib.import_module("torch")


def _import(plugin: FoundPlugin) -> ModuleType:
    if plugin.path is None:
        return importlib.import_module(plugin.module)
    if plugin.module in sys.modules:
        return sys.modules[plugin.module]
    spec = importlib.util.spec_from_file_location(plugin.module, plugin.path)
    if spec is None or spec.loader is None:
        raise _InvalidPlugin(f"{plugin.path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs, so that references of the plugin to itself (f"{__name__}:Class") resolve.
    sys.modules[plugin.module] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[plugin.module]
        raise
    return module


def _register(module: ModuleType, manager: pluggy.PluginManager) -> None:
    """Register the module, unless another entry point did. A module that pluggy rejects does not stay registered."""
    _check_hook_names(module, manager)
    if manager.is_registered(module):
        return
    try:
        manager.register(module)
        manager.check_pending()
    except BaseException:
        if manager.is_registered(module):
            manager.unregister(module)
        raise


def _check_hook_names(module: ModuleType, manager: pluggy.PluginManager) -> None:
    """Reject misspelt hooks with a hint, and hooks without the marker, which pluggy does not see."""
    for name, member in vars(module).items():
        marked = manager.parse_hookimpl_opts(module, name) is not None
        if not marked and not (name.startswith("ddpmkit_") and callable(member)):
            continue
        if name not in HOOKS:
            close = difflib.get_close_matches(name, HOOKS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"hooks are {', '.join(HOOKS)}"
            raise _InvalidPlugin(f"{name} is not a hook of ddpmkit; {hint}")
        if not marked:
            raise _InvalidPlugin(f"{name} lacks the @hookimpl marker")


def _call_hook(manager: pluggy.PluginManager, module: ModuleType, name: str) -> tuple[Any, ...]:
    """Return what the hook of this module yields.

    A call of the hook in all plugins would stop at the first one that raises.
    """
    others = [plugin for plugin in manager.get_plugins() if plugin is not module]
    results = manager.subset_hook_caller(name, remove_plugins=others)()
    return tuple(item for result in results for item in result)


def _validated(
    plugin: FoundPlugin, components: tuple[Any, ...], commands: tuple[Any, ...], diagnoses: tuple[Any, ...]
) -> LoadedPlugin:
    """Raises _InvalidPlugin unless the hooks yielded what they must yield."""
    _check_types("ddpmkit_components", components, Component)
    _check_types("ddpmkit_commands", commands, click.Command)
    _check_types("ddpmkit_diagnoses", diagnoses, str)
    if malformed := [text for text in diagnoses if not is_reference(text)]:
        raise _InvalidPlugin(f"ddpmkit_diagnoses yielded {malformed[0]!r}, not 'package.module:function'")
    if not components and not commands and not diagnoses:
        raise _InvalidPlugin(f"it provides nothing: no hook ({', '.join(HOOKS)}) yields anything")
    for (kind, name), count in Counter((component.kind, component.name) for component in components).items():
        if count > 1:
            raise _InvalidPlugin(f"it declares the {kind} {name!r} {count} times")
    registered = tuple(RegisteredComponent(component, plugin) for component in components)
    return LoadedPlugin(plugin, registered, commands, diagnoses)


def _check_types(hook: str, items: Iterable[object], kind: type) -> None:
    for item in items:
        if not isinstance(item, kind):
            raise _InvalidPlugin(f"{hook} yielded {item!r}, which is not a {kind.__name__}")
