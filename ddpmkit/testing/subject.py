"""The component under test."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddpmkit.errors import ComponentUnavailable, PluginError
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plugin.component import ComponentConfig
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.testing.failures import NotApplicable, NotBuilt, NotChecked

if TYPE_CHECKING:
    from ddpmkit.testing.side_effects import Observation

__all__ = ["Results", "Subject", "Use"]

Results = Mapping[str, Any]
"""What a component returned, by name: tensors, arrays or plain values."""

Use = Callable[["Subject"], Results]
"""Builds a component and uses it once, as a run does."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A component, and the config it is checked with."""

    registered: RegisteredComponent
    config: ComponentConfig
    use: Use
    timesteps: tuple[int, ...] = ()
    """Additional values of T at which a schedule is checked."""

    def build(self, **runtime: Any) -> Any:
        """Build the component. Raises NotBuilt, caused by what its code raised; ComponentUnavailable passes through."""
        try:
            return self.registered.build(self.config, **runtime)
        except ComponentUnavailable:
            raise
        except BaseException as error:
            if is_interrupt(error):
                raise
            raise NotBuilt("it cannot be built") from _original(error)

    @functools.cached_property
    def observation(self) -> "Observation":
        """Side effects of building and using the component twice."""
        from ddpmkit.testing.side_effects import observe  # imports torch

        return observe(lambda: self.use(self))

    def require_provided(self, capability: str) -> None:
        """Raise NotApplicable unless the component declares the capability in `provides`."""
        if capability not in self.registered.component.provides:
            raise NotApplicable(f"it does not provide `{capability}`")

    def require_use(self) -> None:
        """Raise NotChecked if the component raises when it is used once: its side effects are then unknown."""
        if isinstance(error := self.observation.error, NotChecked):
            raise error
        if error is not None:
            raise NotChecked("it raises when it is used") from error


def _original(error: BaseException) -> BaseException:
    """What the component raised, without the registry's explanation for users."""
    return error.__cause__ if isinstance(error, PluginError) and error.__cause__ is not None else error
