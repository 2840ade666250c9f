"""Finds the components that a command names."""

import difflib
from typing import TYPE_CHECKING

import click

from ddpmkit.contracts import KINDS
from ddpmkit.errors import PluginError

if TYPE_CHECKING:
    from ddpmkit.plugin.registered_component import RegisteredComponent
    from ddpmkit.plugin.registry import Registry

__all__ = ["find_components", "kind_option"]

_SIMILAR = 0.6
"""The ratio of difflib from which a name counts as similar."""

kind_option = click.option(
    "--kind", type=click.Choice(KINDS), help="The kind, if components of several kinds have this name."
)
"""`--kind`; the command receives `kind`, a string or None."""


def find_components(registry: "Registry", name: str, kind: str | None) -> list["RegisteredComponent"]:
    """Return every component with this name. Raises PluginError with suggestions if there is none."""
    kinds = [kind] if kind else KINDS
    found = [entry for k in kinds for entry in registry.of_kind(k) if name in (entry.use, entry.id)]
    if found:
        return found
    if kind is not None:
        return [registry.get(kind, name)]
    if name in KINDS:
        remedy = "run `ddpmkit plugins list` to see its components"
        raise PluginError(f"{name!r} is a kind of component, not a component.", remedies=[remedy])
    nearest = _nearest_kind(registry, name)
    remedies = registry.suggestions(nearest, name) if nearest else ["run `ddpmkit plugins list` to see all components"]
    raise PluginError(f"there is no component {name!r}.", remedies=remedies)


def _nearest_kind(registry: "Registry", name: str) -> str | None:
    """Return the kind that has the most similar name, for the suggestions; None if no name is similar."""

    def similarity(kind: str) -> float:
        names = [entry.use for entry in registry.of_kind(kind)]
        return max((difflib.SequenceMatcher(None, name, other).ratio() for other in names), default=0.0)

    nearest = max(KINDS, key=similarity)
    return nearest if similarity(nearest) >= _SIMILAR else None
