"""The immutable registry of components, in which the `use` of a recipe is looked up."""

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ddpmkit.contracts import KINDS
from ddpmkit.errors import PluginError
from ddpmkit.plugin.component import Component
from ddpmkit.plugin.finder import BUILTIN_NAMESPACE, LOCAL_NAMESPACE, FoundPlugin
from ddpmkit.plugin.loader import BrokenPlugin
from ddpmkit.plugin.registered_component import RegisteredComponent

__all__ = ["NameConflict", "Registry", "name_conflicts", "namespace_of"]


@dataclass(frozen=True)
class NameConflict:
    """Two or more components with the same kind and id. A recipe cannot refer to either."""

    components: tuple[RegisteredComponent, ...]

    def __str__(self) -> str:
        first = self.components[0]
        claims = " and ".join(f"by {component.plugin}" for component in self.components)
        return f"{first.kind} {first.id!r} is claimed {claims}"


@dataclass(frozen=True)
class Registry:
    """All components by kind and id, and the plugins that are installed but cannot be used."""

    components: Mapping[str, Mapping[str, RegisteredComponent]]
    broken: tuple[BrokenPlugin, ...] = ()
    disabled: tuple[FoundPlugin, ...] = ()

    @classmethod
    def from_components(
        cls,
        components: Iterable[RegisteredComponent | Component],
        *,
        namespace: str = LOCAL_NAMESPACE,
        broken: Iterable[BrokenPlugin] = (),
        disabled: Iterable[FoundPlugin] = (),
    ) -> "Registry":
        """Build a registry. A `Component` without a plugin is registered under `namespace`.

        Raises PluginError if two components have the same kind and id. The error names both plugins.
        """
        unpackaged = FoundPlugin(namespace, "", "unpackaged", "0")
        entries = [
            RegisteredComponent(item, unpackaged) if isinstance(item, Component) else item for item in components
        ]
        if conflicts := name_conflicts(entries):
            one = conflicts[0].components[-1].plugin.entry_name
            raise PluginError(
                f"{'; '.join(map(str, conflicts))}.",
                remedies=["uninstall one of them", f"disable one of them: DDPMKIT_DISABLE_PLUGINS={one}"],
            )
        by_id = sorted(entries, key=lambda entry: entry.id)
        table = {kind: MappingProxyType({entry.id: entry for entry in by_id if entry.kind == kind}) for kind in KINDS}
        return cls(MappingProxyType(table), tuple(sorted(broken, key=str)), tuple(sorted(disabled, key=str)))

    @property
    def plugins(self) -> tuple[FoundPlugin, ...]:
        """Every plugin, including broken and disabled ones."""
        usable = [entry.plugin for kind in self.components for entry in self.of_kind(kind)]
        return tuple(dict.fromkeys([*usable, *(broken.plugin for broken in self.broken), *self.disabled]))

    def of_kind(self, kind: str) -> tuple[RegisteredComponent, ...]:
        """Return all components of a kind, sorted by id."""
        return tuple(self.components[kind].values())

    def get(self, kind: str, use: str) -> RegisteredComponent:
        """Return the component that `use` refers to. A name without a namespace means `ddpmkit/name`.

        Raises PluginError if there is no such component. The error lists the closest name, all available names, and
        the plugins that are installed but broken or disabled.
        """
        found = self.components[kind].get(_full_id(use))
        if found is None:
            raise PluginError(f"there is no {kind} {use!r}.", remedies=self.suggestions(kind, use))
        return found

    def suggestions(self, kind: str, use: str) -> list[str]:
        """Return hints for an unknown `use`, one line each."""
        available = [entry.use for entry in self.of_kind(kind)]
        names = {entry.component.name: entry.use for entry in self.of_kind(kind)} | {use_: use_ for use_ in available}
        lines = [f"did you mean {names[close]!r}?" for close in difflib.get_close_matches(use, names, n=1, cutoff=0.6)]
        lines.append(f"available: {', '.join(available) or 'none'}")
        lines += [
            f"{use!r} is a {other.kind}, not a {kind}"
            for entries in self.components.values()
            for other in entries.values()
            if use in (other.use, other.id)
        ]
        lines += [f"failed to load: {broken}" for broken in self.broken]
        namespace = namespace_of(use)
        lines += [f"installed but disabled: {plugin}" for plugin in self.disabled if plugin.namespace == namespace]
        if namespace == LOCAL_NAMESPACE:
            lines.append(f"{LOCAL_NAMESPACE}/ is the namespace of single files: load one with --plugin FILE")
        return lines


def name_conflicts(components: Iterable[RegisteredComponent]) -> tuple[NameConflict, ...]:
    """Return every conflict among `components`, sorted by kind and id."""
    claims: defaultdict[tuple[str, str], list[RegisteredComponent]] = defaultdict(list)
    for entry in sorted(components, key=lambda entry: str(entry.plugin)):
        claims[entry.kind, entry.id].append(entry)
    return tuple(NameConflict(tuple(rivals)) for _, rivals in sorted(claims.items()) if len(rivals) > 1)


def namespace_of(use: str) -> str:
    """Return the namespace of the component that `use` refers to."""
    return _full_id(use).partition("/")[0]


def _full_id(use: str) -> str:
    """A name without a namespace refers to a built-in component."""
    return use if "/" in use else f"{BUILTIN_NAMESPACE}/{use}"
