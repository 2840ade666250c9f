"""All checks of one component: the manners that every component has, and the maths of its kind.

It does not know how a check is run or reported.
"""

import contextlib
import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ddpmkit.errors import ComponentUnavailable, InputError
from ddpmkit.plugin.component import ComponentConfig
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registry import RegisteredComponent, Registry
from ddpmkit.recipe import RecipeError
from ddpmkit.recipe.layers import Layered
from ddpmkit.recipe.validation import Table, validate
from ddpmkit.testing.checks import Check, Rule, Subject

__all__ = ["conformance_checks", "conformance_tests", "rules"]


def conformance_checks(
    component: str | RegisteredComponent,
    *,
    kind: str | None = None,
    settings: Mapping[str, Any] | None = None,
    xfail: Mapping[str, str] | None = None,
    timesteps: Sequence[int] = (),
    registry: Registry | None = None,
) -> list[Check]:
    """The checks of an installed component, named as a recipe names it.

    `kind` tells apart components of one name; `settings` are config keys that it cannot do without (a folder, a file);
    `xfail` says of checks by id why they fail for now: one that passes all the same is a failure; a schedule is checked
    at T = 50, T = 1000 and the T of `timesteps`. Raises PluginError when there is no such component, or its code cannot
    be imported, RecipeError when the settings do not make a config, InputError when `xfail` names no check or no
    reason, and for `timesteps` of what is not a schedule.
    """
    registered = component if isinstance(component, RegisteredComponent) else _find(component, kind, registry)
    reasons = _reasons(registered, xfail or {})
    if timesteps and registered.kind != "schedule":
        raise InputError(f"{registered.kind} {registered.use!r} is not a schedule, and has no timesteps to check.")
    config = _config(registered, settings or {})
    # What cannot work here says so when it is asked; what cannot be imported at all would fail every check alike.
    with contextlib.suppress(ComponentUnavailable):
        registered.offers("__call__")
    use = importlib.import_module(f"ddpmkit.testing.{registered.kind}").use
    subject = Subject(registered, config, use, tuple(timesteps))
    return [Check(rule, subject, reasons.get(rule.id, "")) for rule in rules(registered.kind)]


def conformance_tests(
    component: str | RegisteredComponent,
    *,
    kind: str | None = None,
    settings: Mapping[str, Any] | None = None,
    xfail: Mapping[str, str] | None = None,
    timesteps: Sequence[int] = (),
) -> Callable[[Check], None]:
    """The same for pytest, a test a check: `test_conformance = conformance_tests("acme/zigzag")` in a test module.

    Raises as `conformance_checks` does.
    """
    import pytest

    checks = conformance_checks(component, kind=kind, settings=settings, xfail=xfail, timesteps=timesteps)

    @pytest.mark.parametrize("check", checks, ids=str)
    def test_conformance(check: Check) -> None:
        __tracebackhide__ = True
        outcome = check.run()
        if outcome.status == "xfailed":
            pytest.xfail(outcome.reason)
        if outcome.status == "not applicable":
            pytest.skip(f"not applicable: {outcome.seen}")

    return test_conformance


def rules(kind: str) -> tuple[Rule, ...]:
    """Every rule for components of a kind, the manners first."""
    # Imported only now: they import torch.
    both = (importlib.import_module(f"ddpmkit.testing.{name}").RULES for name in ("manners", kind))
    return tuple(rule for part in both for rule in part)


def _config(registered: RegisteredComponent, settings: Mapping[str, Any]) -> ComponentConfig:
    """As a recipe is read, and with what a recipe would be told. Raises RecipeError."""
    tree = Layered("settings", dict(settings))
    config = validate(registered.config_model(), Table(tree, (), settings, f"{registered.kind} `{registered.use}`"))
    if config is None:
        raise RecipeError(tree.problems)
    return config


def _reasons(registered: RegisteredComponent, xfail: Mapping[str, str]) -> Mapping[str, str]:
    known = [rule.id for rule in rules(registered.kind)] if xfail else []
    for name, reason in xfail.items():
        if name not in known:
            close = [f"did you mean {match!r}?" for match in difflib.get_close_matches(name, known, n=1)]
            raise InputError(
                f"xfail names {name!r}, which is no check of a {registered.kind}.",
                remedies=[*close, f"its checks are {', '.join(known)}"],
            )
        if not isinstance(reason, str) or not reason.strip():
            raise InputError(
                f"xfail of {name} has no reason.", remedies=["say why it fails, and until when that is well"]
            )
    return xfail


def _find(use: str, kind: str | None, registry: Registry | None) -> RegisteredComponent:
    registry = registry or discover().registry()
    kinds = [kind] if kind else list(registry.components)
    holding = [name for name in kinds if any(use in (entry.use, entry.id) for entry in registry.of_kind(name))]
    return registry.get((holding or kinds)[0], use)
