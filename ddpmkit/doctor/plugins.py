"""Checks of the installed plugins, and the checks that plugins provide through `ddpmkit_diagnoses`."""

import functools
from collections.abc import Iterator

from ddpmkit.doctor.diagnose import diagnose
from ddpmkit.plugin.diagnosis import Diagnosis
from ddpmkit.plugin.discovery import Discovery
from ddpmkit.plugin.fault_location import fix_hint
from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.references import resolve
from ddpmkit.plugin.registry import name_conflicts
from ddpmkit.worker import Worker

__all__ = ["installed_plugins", "plugin_diagnoses"]

_TIMEOUT = 60.0
"""Seconds that one check of a plugin may take."""


def installed_plugins(discovery: Discovery) -> Iterator[Diagnosis]:
    """One diagnosis for the working plugins, one for each that failed to load, one for each name conflict."""
    if not discovery.plugins:
        reason = "no plugin works, not even the built-in ones"
        yield Diagnosis("plugins", "problem", reason, ("pip install --force-reinstall --no-deps ddpmkit",))
    else:
        off = f"; disabled: {', '.join(map(str, discovery.disabled))}" if discovery.disabled else ""
        yield Diagnosis("plugins", "ok", f"{len(discovery.plugins)} work{off}")
    for warning in discovery.warnings:
        yield Diagnosis("plugins", "note", warning)
    for broken in discovery.broken:
        finding = f"{broken.plugin} failed to load: {broken.reason}"
        yield Diagnosis("plugin", "problem", finding, _remedies(broken.plugin, broken.place), broken.traceback)
    for conflict in name_conflicts(discovery.components):
        one = conflict.components[-1].plugin
        yield Diagnosis("plugin", "problem", f"{conflict}: no recipe can be read", _remedies(one))


def plugin_diagnoses(discovery: Discovery) -> Iterator[Diagnosis]:
    """Call the functions that `ddpmkit_diagnoses` yielded. One that fails or hangs is a problem of its plugin."""
    for plugin in discovery.plugins:
        for reference in plugin.diagnoses:
            remedies = (f"{fix_hint(plugin.found, reference)}: {reference} fails",)
            check = functools.partial(Worker(reference).call, functools.partial(_call, reference), _TIMEOUT)
            yield diagnose(plugin.found.entry_name, check, remedies=remedies)


def _call(reference: str) -> Diagnosis:
    found: Diagnosis = resolve(reference)()
    return found


def _remedies(plugin: FoundPlugin, place: str = "") -> tuple[str, ...]:
    if plugin.can_be_edited:
        return (f"fix {place or plugin.path or plugin.module}, or remove the plugin",)
    if not plugin.third_party:
        return (f"pip install --force-reinstall --no-deps {plugin.distribution}",)
    return (
        f"pip install --upgrade {plugin.distribution}",
        f"pip uninstall {plugin.distribution}",
        f"disable it: set DDPMKIT_DISABLE_PLUGINS={plugin.entry_name} in the environment",
    )
