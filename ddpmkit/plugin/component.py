"""What a plugin declares: `Component` records, and `ComponentConfig`, the base class of their configs.

A component is declared as data. It names the code that implements it, and the code is imported when it is used.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from ddpmkit.contracts import KINDS, RUNTIME
from ddpmkit.plugin.references import is_reference

__all__ = ["API_VERSION", "Component", "ComponentConfig", "check_config_model"]

API_VERSION = 1
"""The version of the contracts in `ddpmkit.contracts`. ddpmkit also supports components of the version before it."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class ComponentConfig(BaseModel):
    """Base class of a component's config: a pydantic model that is immutable, strict, and forbids unknown keys.

    The docstring below a field becomes its description in `ddpmkit plugins show`, the JSON schema and the docs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    without_effect: ClassVar[frozenset[str]] = frozenset()
    """Names of fields that affect no result, for example a batch size, or the path of a file whose digest is among the
    facts of a protocol. Scores whose configs differ only in these fields count as the same evaluation."""

    def unused_keys(self) -> Iterable[tuple[str, str]]:
        """Return each key that has no effect with the other values, and the reason: `("churn_to", "churn is 0")`.

        ddpmkit warns if a recipe sets one of them.
        """
        return ()


@dataclass(frozen=True)
class Component:
    """A component, declared as data. Its code is imported when it is used.

    Raises ValueError if a field is malformed. The plugin that declares it is then broken: none of its components can
    be used.
    """

    kind: str
    """One of `ddpmkit.contracts.KINDS`."""
    name: str
    """Lower-case words joined by hyphens. A recipe refers to the component as `use = "namespace/name"`."""
    target: str
    """`package.module:Name` of a class or function, called as `Name(config, **runtime)` (see `contracts.RUNTIME`)."""
    summary: str
    """One line, shown by `ddpmkit plugins list`."""
    config: str = "ddpmkit.plugin:ComponentConfig"
    """`package.module:Name` of a subclass of `ComponentConfig`. Its module must not import torch."""
    api: int = API_VERSION
    """The version of the contracts that the component implements."""
    requires: tuple[str, ...] = ()
    """Top-level modules that must be installed because the target imports them (`wandb`)."""
    provides: tuple[str, ...] = ()
    """Capabilities that this component provides to the other components of a recipe."""
    needs: tuple[str, ...] = ()
    """Capabilities that another component of the recipe must provide. `a|b` means `a` or `b`."""

    def __post_init__(self) -> None:
        """Raise ValueError if a field is malformed."""
        if self.kind not in KINDS:
            known = ", ".join(KINDS)
            raise ValueError(f"component {self.name!r} has the unknown kind {self.kind!r}; kinds are {known}")
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"component name {self.name!r} must be lower-case words joined by hyphens")
        if type(self.api) is not int:
            raise ValueError(
                f"component {self.name!r} has api={self.api!r}, which is not an integer: set api={API_VERSION}"
            )
        if self.api not in (supported := _supported_versions(API_VERSION)):
            outdated = "the plugin" if self.api < API_VERSION else "ddpmkit"
            raise ValueError(
                f"component {self.name!r} requires api {self.api}, but this ddpmkit supports api "
                f"{' and '.join(map(str, supported))}: update {outdated}"
            )
        for reference in (self.target, self.config):
            if not is_reference(reference):
                raise ValueError(f"component {self.name!r}: {reference!r} is not of the form 'package.module:Name'")
        for field in ("requires", "provides", "needs"):
            # A string is a sequence of its characters, so it would be accepted without this check.
            if not isinstance(getattr(self, field), tuple):
                raise ValueError(f"component {self.name!r}: {field} must be a tuple of strings")
        if dotted := [module for module in self.requires if not module.isidentifier()]:
            raise ValueError(f"component {self.name!r} requires {dotted[0]!r}, which is not a top-level module")


def _supported_versions(version: int) -> range:
    """Return the versions that a core of this version accepts: its own and the previous one. The first was 1."""
    return range(max(1, version - 1), version + 1)


def check_config_model(model: Any, component: Component) -> type[ComponentConfig]:
    """Return `model`. Raises TypeError if it cannot be the config of `component`."""
    if not (isinstance(model, type) and issubclass(model, ComponentConfig)):
        raise TypeError(f"{component.config} must be a subclass of ddpmkit.plugin.ComponentConfig")
    if reserved := sorted(set(model.model_fields) & {*RUNTIME[component.kind], "use"}):
        raise TypeError(f"{component.config} has fields whose names are reserved: {', '.join(reserved)}")
    return model
