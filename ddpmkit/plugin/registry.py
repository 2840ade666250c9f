"""The immutable table of components that a recipe chooses from.

Built once, from declared components; it does not know how they were found.
"""

import difflib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ddpmkit.contracts import KINDS
from ddpmkit.errors import ComponentUnavailable, DdpmkitError, PluginError
from ddpmkit.plugin.component import Component, ComponentConfig, check_config_model, resolve

__all__ = ["BUILTIN_NAMESPACE", "Quarantined", "RegisteredComponent", "Registry"]

BUILTIN_NAMESPACE = "ddpmkit"


@dataclass(frozen=True)
class RegisteredComponent:
    """A component together with where it came from."""

    component: Component
    namespace: str
    distribution: str
    version: str

    @property
    def kind(self) -> str:
        """The component's kind."""
        return self.component.kind

    @property
    def id(self) -> str:
        """`namespace/name`, the full form of a recipe's `use`."""
        return f"{self.namespace}/{self.component.name}"

    @property
    def use(self) -> str:
        """The shortest form a recipe may write: built-ins need no namespace."""
        return self.component.name if self.namespace == BUILTIN_NAMESPACE else self.id

    @property
    def origin(self) -> str:
        """Distribution and version, for error messages."""
        return f"{self.distribution} {self.version}"

    def config_model(self) -> type[ComponentConfig]:
        """The pydantic model of the config. Raises PluginError when the plugin's own code fails."""
        try:
            return check_config_model(resolve(self.component.config), self.component)
        except Exception as error:
            raise self._broken("config", self.component.config, error) from error

    def build(self, config: ComponentConfig, **runtime: Any) -> Any:
        """Import the target and call it.

        Raises ComponentUnavailable when something it requires is missing, PluginError when its code fails.
        """
        missing = [module for module in self.component.requires if importlib.util.find_spec(module) is None]
        if missing:
            raise ComponentUnavailable(
                f"{self.kind} {self.use!r} ({self.origin}) requires {', '.join(missing)}, not installed here.",
                remedies=[f"pip install {' '.join(missing)}"],
            )
        try:
            return resolve(self.component.target)(config, **runtime)
        except DdpmkitError:
            raise
        except Exception as error:
            raise self._broken("target", self.component.target, error) from error

    def _broken(self, part: str, reference: str, error: Exception) -> PluginError:
        return PluginError(
            f"{self.kind} {self.use!r}: its {part} {reference} failed with {type(error).__name__}: {error}",
            remedies=[f"report it to the authors of {self.origin}, which provides it", "use another " + self.kind],
        )


@dataclass(frozen=True)
class Quarantined:
    """A plugin that was found but cannot be used, and why."""

    entry_name: str
    distribution: str
    version: str
    reason: str
    traceback: str = ""

    @property
    def namespace(self) -> str:
        """The namespace its components would have had."""
        return self.entry_name.partition(".")[0]


@dataclass(frozen=True)
class Registry:
    """Every usable component by kind and id, and the plugins that had to be set aside."""

    components: Mapping[str, Mapping[str, RegisteredComponent]]
    quarantined: tuple[Quarantined, ...] = field(default=())

    @classmethod
    def from_components(
        cls,
        components: Iterable[RegisteredComponent | Component],
        *,
        namespace: str = "local",
        quarantined: Iterable[Quarantined] = (),
    ) -> "Registry":
        """Build the table. A bare `Component` is registered under `namespace`.

        Raises PluginError when two components claim one id; it names both distributions.
        """
        table: dict[str, dict[str, RegisteredComponent]] = {kind: {} for kind in KINDS}
        for item in components:
            entry = RegisteredComponent(item, namespace, "unpackaged", "0") if isinstance(item, Component) else item
            rival = table[entry.kind].get(entry.id)
            if rival is not None:
                raise PluginError(
                    f"{entry.kind} {entry.id!r} is claimed twice: by {rival.origin} and by {entry.origin}.",
                    remedies=["uninstall one of them", f"DDPMKIT_DISABLE_PLUGINS={entry.namespace} leaves both out"],
                )
            table[entry.kind][entry.id] = entry
        frozen = {kind: MappingProxyType(dict(sorted(entries.items()))) for kind, entries in table.items()}
        by_name = sorted(quarantined, key=lambda item: (item.entry_name, item.distribution))
        return cls(MappingProxyType(frozen), tuple(by_name))

    def of_kind(self, kind: str) -> tuple[RegisteredComponent, ...]:
        """All components of one kind, by id."""
        return tuple(self.components[kind].values())

    def get(self, kind: str, use: str) -> RegisteredComponent:
        """Look a recipe's `use` up; a bare name means `ddpmkit/name`.

        Raises PluginError with the nearest name, what is available, and what is installed but broken.
        """
        identifier = use if "/" in use else f"{BUILTIN_NAMESPACE}/{use}"
        found = self.components[kind].get(identifier)
        if found is None:
            raise PluginError(f"there is no {kind} {use!r}.", remedies=self.suggestions(kind, use))
        return found

    def suggestions(self, kind: str, use: str) -> list[str]:
        """What to tell someone who asked for a component that is not there."""
        available = [entry.use for entry in self.of_kind(kind)]
        names = {entry.component.name: entry.use for entry in self.of_kind(kind)} | {use_: use_ for use_ in available}
        lines = [f"did you mean {names[close]!r}?" for close in difflib.get_close_matches(use, names, n=1, cutoff=0.6)]
        lines.append(f"available: {', '.join(available) or 'none'}")
        other = [
            entry.kind
            for entries in self.components.values()
            for entry in entries.values()
            if use in (entry.use, entry.id)
        ]
        lines += [f"{use!r} is a {kind_}, not a {kind}" for kind_ in other]
        lines += [
            f"installed but broken: {plugin.entry_name} ({plugin.distribution} {plugin.version}): {plugin.reason}"
            for plugin in self.quarantined
        ]
        return lines
