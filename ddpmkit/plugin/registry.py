"""The immutable table of components that a recipe chooses from.

Built once, from declared components; it does not know how they were found.
"""

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ddpmkit.contracts import KINDS
from ddpmkit.errors import ComponentUnavailable, DdpmkitError, PluginError, worded
from ddpmkit.global_state import StateKeeper
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plugin.component import Component, ComponentConfig, check_config_model, resolve
from ddpmkit.plugin.fault_location import way_to_mend
from ddpmkit.plugin.plugin_source import BUILTIN_NAMESPACE, LOCAL_NAMESPACE, FoundPlugin
from ddpmkit.plugin.requirements import missing_modules, way_to_install
from ddpmkit.plugin.static_check import absence

__all__ = ["Clash", "Quarantined", "RegisteredComponent", "Registry", "clashes", "namespace_of"]


@dataclass(frozen=True)
class RegisteredComponent:
    """A component together with the plugin that declared it."""

    component: Component
    plugin: FoundPlugin

    @property
    def kind(self) -> str:
        """The component's kind."""
        return self.component.kind

    @property
    def id(self) -> str:
        """`namespace/name`, the full form of a recipe's `use`."""
        return f"{self.plugin.namespace}/{self.component.name}"

    @property
    def use(self) -> str:
        """The shortest form a recipe may write: built-ins need no namespace."""
        return self.component.name if self.plugin.namespace == BUILTIN_NAMESPACE else self.id

    @property
    def origin(self) -> str:
        """Distribution and version, for error messages."""
        return self.plugin.origin

    def config_model(self) -> type[ComponentConfig]:
        """The pydantic model of the config. Raises PluginError when the plugin's own code fails."""
        try:
            return check_config_model(self._imported(self.component.config), self.component)
        except BaseException as error:
            if is_interrupt(error):
                raise
            raise self._broken("config", self.component.config, error) from error

    def build(self, config: ComponentConfig, **runtime: Any) -> Any:
        """Import the target and call it.

        Raises ComponentUnavailable when something it requires is missing, PluginError when its code fails.
        """
        return self._with_target(lambda target: target(config, **runtime))

    def offers(self, method: str) -> bool:
        """Import the target and see whether it has a member that its contract leaves open. Raises as `build` does."""
        return bool(self._with_target(lambda target: hasattr(target, method)))

    def call(self, method: str, config: ComponentConfig, **runtime: Any) -> Any:
        """Import the target and call a class method of it. Raises as `build` does."""
        return self._with_target(lambda target: getattr(target, method)(config, **runtime))

    def absence(self) -> DdpmkitError | None:
        """What `build` is bound to raise because code is not installed, told without importing any of it."""
        if (lacking := self._lacking()) is not None:
            return lacking
        error = absence(self.component.target)
        return self._broken("target", self.component.target, error) if error is not None else None

    def _lacking(self) -> ComponentUnavailable | None:
        missing = missing_modules(self.component.requires)
        if not missing:
            return None
        return ComponentUnavailable(
            f"{self.kind} {self.use!r} ({self.origin}) needs the module {', '.join(missing)}, not installed here.",
            remedies=[way_to_install(missing, self.plugin), f"use another {self.kind}"],
        )

    def _with_target(self, use: Callable[[Any], Any]) -> Any:
        if (lacking := self._lacking()) is not None:
            raise lacking
        try:
            return use(self._imported(self.component.target))
        except DdpmkitError:
            raise
        except BaseException as error:
            if is_interrupt(error):
                raise
            raise self._broken("target", self.component.target, error) from error

    def _imported(self, reference: str) -> Any:
        with StateKeeper().around(f"{self.kind} {self.use!r}"):
            return resolve(reference)

    def _broken(self, part: str, reference: str, error: BaseException) -> PluginError:
        return PluginError(
            f"{self.kind} {self.use!r}: its {part} {reference} failed with {worded(error)}",
            remedies=[way_to_mend(self.plugin, reference, error), f"use another {self.kind}"],
        )


@dataclass(frozen=True)
class Quarantined:
    """A plugin that was found but cannot be used, and why."""

    plugin: FoundPlugin
    reason: str
    traceback: str = ""
    """Empty where the plugin's own code did not fail."""
    place: str = ""
    """`file:line` of the fault, or the file."""

    def __str__(self) -> str:
        return f"{self.plugin}: {self.reason}"


@dataclass(frozen=True)
class Clash:
    """Components of one kind and id. Which of them a recipe means cannot be known."""

    rivals: tuple[RegisteredComponent, ...]

    def __str__(self) -> str:
        first = self.rivals[0]
        return f"{first.kind} {first.id!r} is claimed {' and '.join(f'by {rival.plugin}' for rival in self.rivals)}"


@dataclass(frozen=True)
class Registry:
    """Every usable component by kind and id, and the plugins that are installed but cannot be chosen from."""

    components: Mapping[str, Mapping[str, RegisteredComponent]]
    quarantined: tuple[Quarantined, ...] = ()
    disabled: tuple[FoundPlugin, ...] = ()

    @classmethod
    def from_components(
        cls,
        components: Iterable[RegisteredComponent | Component],
        *,
        namespace: str = LOCAL_NAMESPACE,
        quarantined: Iterable[Quarantined] = (),
        disabled: Iterable[FoundPlugin] = (),
    ) -> "Registry":
        """Build the table. A bare `Component` is registered under `namespace`.

        Raises PluginError when two components claim one id; it names both plugins and their distributions.
        """
        unpackaged = FoundPlugin(namespace, "", "unpackaged", "0")
        entries = [
            RegisteredComponent(item, unpackaged) if isinstance(item, Component) else item for item in components
        ]
        if found := clashes(entries):
            one = found[0].rivals[-1].plugin.entry_name
            raise PluginError(
                f"{'; '.join(map(str, found))}.",
                remedies=["uninstall one of them", f"leave one out, as in DDPMKIT_DISABLE_PLUGINS={one}"],
            )
        by_id = sorted(entries, key=lambda entry: entry.id)
        table = {kind: MappingProxyType({entry.id: entry for entry in by_id if entry.kind == kind}) for kind in KINDS}
        return cls(MappingProxyType(table), tuple(sorted(quarantined, key=str)), tuple(sorted(disabled, key=str)))

    @property
    def plugins(self) -> tuple[FoundPlugin, ...]:
        """Every plugin that is here, those included that cannot be chosen from."""
        usable = [entry.plugin for kind in self.components for entry in self.of_kind(kind)]
        return tuple(dict.fromkeys([*usable, *(broken.plugin for broken in self.quarantined), *self.disabled]))

    def of_kind(self, kind: str) -> tuple[RegisteredComponent, ...]:
        """All components of one kind, by id."""
        return tuple(self.components[kind].values())

    def get(self, kind: str, use: str) -> RegisteredComponent:
        """Look a recipe's `use` up; a bare name means `ddpmkit/name`.

        Raises PluginError with the nearest name, what is available, and what is installed but broken or switched off.
        """
        found = self.components[kind].get(_full(use))
        if found is None:
            raise PluginError(f"there is no {kind} {use!r}.", remedies=self.suggestions(kind, use))
        return found

    def suggestions(self, kind: str, use: str) -> list[str]:
        """What to tell someone who asked for a component that is not there."""
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
        lines += [f"installed but broken: {broken}" for broken in self.quarantined]
        namespace = namespace_of(use)
        lines += [f"installed but switched off: {off}" for off in self.disabled if off.namespace == namespace]
        if namespace == LOCAL_NAMESPACE:
            lines.append(f"{LOCAL_NAMESPACE}/ is for the components of a file: --plugin FILE loads them")
        return lines


def clashes(components: Iterable[RegisteredComponent]) -> tuple[Clash, ...]:
    """Every name that more than one component claims, by kind and id."""
    claims: defaultdict[tuple[str, str], list[RegisteredComponent]] = defaultdict(list)
    for entry in sorted(components, key=lambda entry: str(entry.plugin)):
        claims[entry.kind, entry.id].append(entry)
    return tuple(Clash(tuple(rivals)) for _, rivals in sorted(claims.items()) if len(rivals) > 1)


def namespace_of(use: str) -> str:
    """Whose component a recipe's `use` means."""
    return _full(use).partition("/")[0]


def _full(use: str) -> str:
    """A bare name means a built-in."""
    return use if "/" in use else f"{BUILTIN_NAMESPACE}/{use}"
