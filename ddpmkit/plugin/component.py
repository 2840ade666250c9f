"""The record a plugin declares for each of its components, and the base class of their configs.

A component is data until it is used: names of the code that implements it, never the code itself. This module does not
know where components come from.
"""

import difflib
import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from ddpmkit.contracts import KINDS, RUNTIME

__all__ = [
    "API_VERSION",
    "Component",
    "ComponentConfig",
    "check_config_model",
    "is_reference",
    "no_attribute",
    "resolve",
]

API_VERSION = 1
"""The version of the contracts in `ddpmkit.contracts` that this core speaks. Components of the one before work too."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class ComponentConfig(BaseModel):
    """Base of a component's config: unknown keys refused, no silent conversion, immutable.

    The docstring under a field becomes its description in `plugins show`, the JSON schema and the docs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    without_effect: ClassVar[frozenset[str]] = frozenset()
    """Fields that no result depends on: how many images are computed at once, or the path of a file whose digest is
    among the facts of a protocol. Scores that differ in these alone are the same evaluation."""

    def unused_keys(self) -> Iterable[tuple[str, str]]:
        """Keys that change nothing beside the values of the others, each with why: `("churn_to", "churn is 0")`.

        ddpmkit reports those that somebody wrote.
        """
        return ()


@dataclass(frozen=True)
class Component:
    """One interchangeable part, declared as data and imported when used.

    Raises ValueError when a field is malformed, which quarantines the plugin that declared it.
    """

    kind: str
    """One of `ddpmkit.contracts.KINDS`."""
    name: str
    """Lower-case words joined by hyphens; a recipe writes `use = "namespace/name"`."""
    target: str
    """`package.module:Class`, called as `Class(config, **runtime)` with the names in `ddpmkit.contracts.RUNTIME`."""
    summary: str
    """One line for `plugins list`."""
    config: str = "ddpmkit.plugin:ComponentConfig"
    """`package:Model`, a subclass of `ComponentConfig`; its module must import no torch."""
    api: int = API_VERSION
    """The version of the contracts that it speaks."""
    requires: tuple[str, ...] = ()
    """Top-level modules that must be installed for the target to work (`wandb`)."""
    provides: tuple[str, ...] = ()
    """Capabilities this component offers to the others of a recipe."""
    needs: tuple[str, ...] = ()
    """Capabilities that another part of the recipe must offer; `a|b` is satisfied by either."""

    def __post_init__(self) -> None:
        """Refuse malformed declarations."""
        if self.kind not in KINDS:
            known = ", ".join(KINDS)
            raise ValueError(f"component {self.name!r} has the unknown kind {self.kind!r}; kinds are {known}")
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"component name {self.name!r} must be lower-case words joined by hyphens")
        if type(self.api) is not int:
            raise ValueError(
                f"component {self.name!r} has api={self.api!r}, which is no whole number: set api={API_VERSION}"
            )
        if self.api not in (spoken := _spoken(API_VERSION)):
            older = "the plugin" if self.api < API_VERSION else "ddpmkit"
            raise ValueError(
                f"component {self.name!r} speaks api {self.api}, this ddpmkit speaks api "
                f"{' and '.join(map(str, spoken))}: update {older}"
            )
        for reference in (self.target, self.config):
            if not is_reference(reference):
                raise ValueError(f"component {self.name!r}: {reference!r} is not of the form 'package.module:Name'")
        for field in ("requires", "provides", "needs"):
            # A bare string is a sequence too, of letters.
            if not isinstance(getattr(self, field), tuple):
                raise ValueError(f"component {self.name!r}: {field} must be a tuple of names")
        if dotted := [module for module in self.requires if not module.isidentifier()]:
            raise ValueError(f"component {self.name!r} requires {dotted[0]!r}, which is no top-level module")


def _spoken(version: int) -> range:
    """The versions that a core of this version accepts: its own and the one before. The first was 1."""
    return range(max(1, version - 1), version + 1)


def is_reference(text: str) -> bool:
    """Whether `text` has the form that `resolve` takes."""
    return _REFERENCE.fullmatch(text) is not None


def resolve(reference: str) -> Any:
    """Import what `package.module:Name` names. Raises ImportError, or AttributeError with the nearest name there is."""
    name, _, attribute = reference.partition(":")
    module = importlib.import_module(name)
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise no_attribute(name, attribute, dir(module)) from error


def no_attribute(module: str, name: str, others: Iterable[str]) -> AttributeError:
    """What Python says of a name that a module lacks, with the nearest of those that it has."""
    close = difflib.get_close_matches(name, [other for other in others if not other.startswith("_")], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}")


def check_config_model(model: Any, component: Component) -> type[ComponentConfig]:
    """`model` itself when it can serve as the config of `component`. Raises TypeError."""
    if not (isinstance(model, type) and issubclass(model, ComponentConfig)):
        raise TypeError(f"{component.config} must be a subclass of ddpmkit.plugin.ComponentConfig")
    if taken := sorted(set(model.model_fields) & {*RUNTIME[component.kind], "use"}):
        raise TypeError(f"{component.config} has fields with names that the core needs: {', '.join(taken)}")
    return model
