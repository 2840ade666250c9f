"""The installed plugins: which work, which were set aside, and what those that work have to say of this machine.

It does not know what they are for.
"""

import functools
from collections.abc import Iterator

from ddpmkit.doctor.guard import answer
from ddpmkit.plugin.component import resolve
from ddpmkit.plugin.diagnosis import Diagnosis
from ddpmkit.plugin.discovery import Discovery
from ddpmkit.plugin.fault_location import way_to_mend
from ddpmkit.plugin.plugin_source import FoundPlugin
from ddpmkit.plugin.registry import clashes
from ddpmkit.worker import Worker

__all__ = ["answers_of_plugins", "installed_plugins"]

_PATIENCE = 60.0
"""Seconds that a plugin may take for its answer."""


def installed_plugins(discovery: Discovery) -> Iterator[Diagnosis]:
    """One answer for those that work, one for each of the others, one for each name claimed twice."""
    if not discovery.plugins:
        reason = "none works, not even one of ddpmkit's own"
        yield Diagnosis("plugins", "problem", reason, ("pip install --force-reinstall --no-deps ddpmkit",))
    else:
        off = f"; switched off: {', '.join(map(str, discovery.disabled))}" if discovery.disabled else ""
        yield Diagnosis("plugins", "ok", f"{len(discovery.plugins)} work{off}")
    for sentence in discovery.misnamed:
        yield Diagnosis("plugins", "note", sentence)
    for broken in discovery.quarantined:
        finding = f"{broken.plugin} is set aside: {broken.reason}"
        yield Diagnosis("plugin", "problem", finding, _remedies(broken.plugin, broken.place), broken.traceback)
    for clash in clashes(discovery.components):
        one = clash.rivals[-1].plugin
        yield Diagnosis("plugin", "problem", f"{clash}: no recipe can be read", _remedies(one))


def answers_of_plugins(discovery: Discovery) -> Iterator[Diagnosis]:
    """What the functions that `ddpmkit_diagnoses` named answer; one that fails is named with its plugin."""
    for plugin in discovery.plugins:
        for reference in plugin.diagnoses:
            remedies = (f"{way_to_mend(plugin.found, reference)}: {reference} fails",)
            question = functools.partial(Worker(reference).call, functools.partial(_ask, reference), _PATIENCE)
            yield answer(plugin.found.entry_name, question, remedies=remedies)


def _ask(reference: str) -> Diagnosis:
    found: Diagnosis = resolve(reference)()
    return found


def _remedies(plugin: FoundPlugin, place: str = "") -> tuple[str, ...]:
    if plugin.can_be_edited:
        return (f"mend {place or plugin.path or plugin.module}, or leave it out",)
    if not plugin.third_party:
        return (f"pip install --force-reinstall --no-deps {plugin.distribution}",)
    return (
        f"pip install --upgrade {plugin.distribution}",
        f"pip uninstall {plugin.distribution}",
        f"DDPMKIT_DISABLE_PLUGINS={plugin.entry_name}  in the environment leaves it out",
    )
