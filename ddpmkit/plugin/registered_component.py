"""A component together with its plugin: import its code, build it, and name the plugin if that fails."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ddpmkit.errors import ComponentUnavailable, DdpmkitError, PluginError, error_text
from ddpmkit.global_state import SettingsGuard
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plugin.component import Component, ComponentConfig, check_config_model
from ddpmkit.plugin.fault_location import fix_hint
from ddpmkit.plugin.finder import BUILTIN_NAMESPACE, FoundPlugin
from ddpmkit.plugin.references import expected_import_error, resolve
from ddpmkit.plugin.requirements import install_hint, missing_modules

__all__ = ["RegisteredComponent"]


@dataclass(frozen=True)
class RegisteredComponent:
    """A component and the plugin that declares it."""

    component: Component
    plugin: FoundPlugin

    @property
    def kind(self) -> str:
        """The component's kind."""
        return self.component.kind

    @property
    def id(self) -> str:
        """`namespace/name`, the full form of `use` in a recipe."""
        return f"{self.plugin.namespace}/{self.component.name}"

    @property
    def use(self) -> str:
        """The shortest form of `use` in a recipe: the name alone for a built-in component, otherwise `id`."""
        return self.component.name if self.plugin.namespace == BUILTIN_NAMESPACE else self.id

    @property
    def origin(self) -> str:
        """The distribution and its version, or the path of a single file."""
        return self.plugin.origin

    def config_model(self) -> type[ComponentConfig]:
        """Import and return the pydantic model of the config. Raises PluginError if the plugin's code fails."""
        try:
            return check_config_model(self._imported(self.component.config), self.component)
        except BaseException as error:
            if is_interrupt(error):
                raise
            raise self._plugin_error("config", self.component.config, error) from error

    def build(self, config: ComponentConfig, **runtime: Any) -> Any:
        """Import the target, call it and return the result.

        Raises ComponentUnavailable if a required module is not installed, and PluginError if the plugin's code fails.
        """
        return self._with_target(lambda target: target(config, **runtime))

    def implements(self, method: str) -> bool:
        """Return whether the target has an optional method. Imports the target, and raises as `build` does."""
        return bool(self._with_target(lambda target: hasattr(target, method)))

    def call(self, method: str, config: ComponentConfig, **runtime: Any) -> Any:
        """Import the target, call one of its class methods and return the result. Raises as `build` does."""
        return self._with_target(lambda target: getattr(target, method)(config, **runtime))

    def missing_code(self) -> DdpmkitError | None:
        """Return the error that `build` will raise because code is not installed, or None. Nothing is imported."""
        if (missing := self._missing_requirement()) is not None:
            return missing
        error = expected_import_error(self.component.target)
        return self._plugin_error("target", self.component.target, error) if error is not None else None

    def _missing_requirement(self) -> ComponentUnavailable | None:
        missing = missing_modules(self.component.requires)
        if not missing:
            return None
        modules = "module" if len(missing) == 1 else "modules"
        return ComponentUnavailable(
            f"{self.kind} {self.use!r} ({self.origin}) needs the {modules} {', '.join(missing)}, not installed here.",
            remedies=[install_hint(missing, self.plugin), f"use another {self.kind}"],
        )

    def _with_target(self, use: Callable[[Any], Any]) -> Any:
        if (missing := self._missing_requirement()) is not None:
            raise missing
        try:
            return use(self._imported(self.component.target))
        except DdpmkitError:
            raise
        except BaseException as error:
            if is_interrupt(error):
                raise
            raise self._plugin_error("target", self.component.target, error) from error

    def _imported(self, reference: str) -> Any:
        with SettingsGuard().guard(f"{self.kind} {self.use!r}"):
            return resolve(reference)

    def _plugin_error(self, part: str, reference: str, error: BaseException) -> PluginError:
        return PluginError(
            f"{self.kind} {self.use!r}: its {part} {reference} failed with {error_text(error)}",
            remedies=[fix_hint(self.plugin, reference, error), f"use another {self.kind}"],
        )
