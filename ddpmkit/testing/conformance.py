"""The checks of one component: the rules for every component, then the rules of its kind."""

import contextlib
import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ddpmkit.contracts import KINDS
from ddpmkit.errors import ComponentUnavailable, InputError
from ddpmkit.plugin.component import ComponentConfig
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import RecipeError
from ddpmkit.recipe.checks.table import Table
from ddpmkit.recipe.checks.validation import validate
from ddpmkit.recipe.layers import MergedRecipe
from ddpmkit.testing.checks import Check, Rule
from ddpmkit.testing.subject import Subject

__all__ = ["checks_text", "conformance_checks", "conformance_tests", "rules"]


def conformance_checks(
    component: str | RegisteredComponent,
    *,
    kind: str | None = None,
    settings: Mapping[str, Any] | None = None,
    xfail: Mapping[str, str] | None = None,
    timesteps: Sequence[int] = (),
    registry: Registry | None = None,
) -> list[Check]:
    """Return the checks of an installed component, named as in a recipe.

    `kind` selects one of several components with the same name. `settings` are config keys without a default, such as
    a folder. `xfail` maps the ids of checks that are known to fail to a reason; such a check fails if it passes. A
    schedule is checked at T = 50, T = 1000 and the values in `timesteps`.

    Raises PluginError if the component does not exist or cannot be imported, RecipeError if `settings` are not valid,
    and InputError if `xfail` contains an unknown check or an empty reason, or if `timesteps` are given for a component
    that is not a schedule.
    """
    registered = component if isinstance(component, RegisteredComponent) else _find(component, kind, registry)
    reasons = _reasons(registered, xfail or {})
    if timesteps and registered.kind != "schedule":
        raise InputError(f"{registered.kind} {registered.use!r} is not a schedule, so `timesteps` does not apply.")
    config = _config(registered, settings or {})
    # A component that is not available here reports that when it is built. One that cannot be imported raises here.
    with contextlib.suppress(ComponentUnavailable):
        registered.implements("__call__")
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
    """Return a parametrized pytest test with one case for each check of `conformance_checks`.

    In a test module: `test_conformance = conformance_tests("acme/zigzag")`. Raises as `conformance_checks` does.
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
    """Every rule for components of a kind."""
    return (*_rules_in("manners"), *_rules_in(kind))


def checks_text(kinds: Iterable[str] = KINDS) -> str:
    """The list of checks in docs/conformance.md: what each requires, and what to do if it fails."""
    lines: list[str] = []
    for name in ("manners", *kinds):
        lines += [f"## {name}", ""]
        for rule in _rules_in(name):
            first, _, rest = rule.requirement.partition(" ")
            requirement = f"{first.capitalize() if first.isalpha() else first} {rest}."
            lines += [f"### `{rule.id}`", "", f"**{requirement}**", "", rule.remedy, ""]
    return "\n".join(lines).rstrip() + "\n"


def _rules_in(module: str) -> tuple[Rule, ...]:
    """Imported when needed, because these modules import torch."""
    found: tuple[Rule, ...] = importlib.import_module(f"ddpmkit.testing.{module}").RULES
    return found


def _config(registered: RegisteredComponent, settings: Mapping[str, Any]) -> ComponentConfig:
    """Validate `settings` as the keys of a recipe are validated. Raises RecipeError."""
    tree = MergedRecipe("settings", dict(settings))
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
                f"xfail contains {name!r}, which is not a check of a {registered.kind}.",
                remedies=[*close, f"its checks are {', '.join(known)}"],
            )
        if not isinstance(reason, str) or not reason.strip():
            raise InputError(
                f"xfail of {name} has no reason.", remedies=["state why it fails, and until when that is acceptable"]
            )
    return xfail


def _find(use: str, kind: str | None, registry: Registry | None) -> RegisteredComponent:
    registry = registry or discover().registry()
    kinds = [kind] if kind else list(registry.components)
    holding = [name for name in kinds if any(use in (entry.use, entry.id) for entry in registry.of_kind(name))]
    return registry.get((holding or kinds)[0], use)
