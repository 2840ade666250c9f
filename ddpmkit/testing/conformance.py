"""All checks of one component: the manners that every component has, and the maths of its kind.

It does not know how a check is run or reported.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import pydantic_core
from pydantic import ValidationError

from ddpmkit.errors import InputError
from ddpmkit.plugin.component import ComponentConfig
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registry import RegisteredComponent, Registry
from ddpmkit.testing import manners
from ddpmkit.testing.checks import Check, Subject

__all__ = ["conformance_checks"]


def conformance_checks(
    component: str | RegisteredComponent,
    *,
    kind: str | None = None,
    settings: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> list[Check]:
    """The checks of an installed component, named as a recipe names it.

    `kind` tells apart components of one name; `settings` are config keys that it cannot do without (a folder, a file).
    Raises PluginError when there is no such component or its config cannot be imported, InputError when the settings
    do not make a config.
    """
    registered = component if isinstance(component, RegisteredComponent) else _find(component, kind, registry)
    subject = Subject(registered, _config(registered, settings or {}))
    # Imported only now: the checks of a kind import torch.
    of_kind = importlib.import_module(f"ddpmkit.testing.{registered.kind}")
    return [
        Check(f"{registered.kind}-{name}" if own else name, question, advice, subject, ask)
        for own, checks in ((False, manners.checks()), (True, of_kind.checks()))
        for name, question, advice, ask in checks
    ]


def _config(registered: RegisteredComponent, settings: Mapping[str, Any]) -> ComponentConfig:
    """In pydantic's JSON mode, as a recipe is read: arrays become tuples, and all else is strict."""
    try:
        return registered.config_model().model_validate_json(pydantic_core.to_json(settings))
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}" for item in error.errors())
        raise InputError(f"{registered.kind} {registered.use!r} cannot be built: {'; '.join(wrong)}.") from error


def _find(use: str, kind: str | None, registry: Registry | None) -> RegisteredComponent:
    registry = registry or discover().registry()
    kinds = [kind] if kind else list(registry.components)
    holding = [name for name in kinds if any(use in (entry.use, entry.id) for entry in registry.of_kind(name))]
    return registry.get((holding or kinds)[0], use)
