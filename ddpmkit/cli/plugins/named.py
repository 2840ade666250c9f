"""The components that a command is asked about.

It does not know what is done with them.
"""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ddpmkit.contracts import KINDS

if TYPE_CHECKING:
    from ddpmkit.plugin.registry import RegisteredComponent, Registry

__all__ = ["kind_option", "named"]

kind_option = click.option("--kind", type=click.Choice(KINDS), help="Which kind, where two components share a name.")
"""`--kind`; the command gets `kind`, a string or None."""


def named(registry: "Registry", name: str, kind: str | None) -> list["RegisteredComponent"]:
    """Every component of that name. Raises PluginError with suggestions when there is none."""
    kinds = [kind] if kind else KINDS
    found = [entry for k in kinds for entry in registry.of_kind(k) if name in (entry.use, entry.id)]
    return found or [registry.get(_nearest_kind(registry, name, kinds), name)]


def _nearest_kind(registry: "Registry", name: str, kinds: Sequence[str]) -> str:
    """The kind whose names come closest, so that the suggestions help."""

    def likeness(kind: str) -> float:
        names = [entry.use for entry in registry.of_kind(kind)]
        return max((difflib.SequenceMatcher(None, name, other).ratio() for other in names), default=0.0)

    return max(kinds, key=likeness)
