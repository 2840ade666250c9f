"""`ddpmkit plugins check`: run the conformance checks of components."""

import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ddpmkit.cli.options import PluginChoice, plugin_options
from ddpmkit.cli.plugins.check_report import (
    CheckedComponent,
    print_all,
    print_header,
    print_outcome,
    print_totals,
    run_check,
)
from ddpmkit.cli.plugins.lookup import find_components, kind_option
from ddpmkit.cli.terminal import Terminal
from ddpmkit.contracts import KINDS
from ddpmkit.errors import ComponentUnavailable, PluginError

if TYPE_CHECKING:
    from ddpmkit.plugin.registered_component import RegisteredComponent
    from ddpmkit.testing import Outcome

__all__ = ["check"]

_TRACKER_SKIPPED = "it may publish what it receives, so it is checked only when named"


@click.command()
@click.argument("name", required=False)
@kind_option
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set a key of the named component, as in root=data/afhq. May be repeated.",
)
@click.option(
    "--xfail",
    metavar="ID=REASON",
    multiple=True,
    help="Expect this check of the named component to fail, for the given reason; if it passes, that is a failure. "
    "May be repeated.",
)
@click.option(
    "--timesteps",
    metavar="T",
    multiple=True,
    type=click.IntRange(1, 10_000),
    help="Also check the named schedule for this many timesteps (diffusion.timesteps in a recipe). May be repeated.",
)
@click.option("--list", "only_list", is_flag=True, help="Print every check and how to fix a failure, as Markdown.")
@plugin_options
@click.pass_context
def check(
    ctx: click.Context,
    name: str | None,
    kind: str | None,
    settings: tuple[str, ...],
    xfail: tuple[str, ...],
    timesteps: tuple[int, ...],
    only_list: bool,
    plugins: PluginChoice,
) -> None:
    """Run the conformance checks of one component, or of all installed ones.

    Without NAME, components that need settings are skipped, and so are trackers, because they may publish what they
    receive. Exits with code 1 if a check fails, or could not run because the component raised an error.

    \b
    ddpmkit plugins check acme/zigzag
    ddpmkit plugins check image-folder --set root=data/afhq
    ddpmkit plugins check cosine --timesteps 3000
    """
    terminal: Terminal = ctx.obj
    if only_list:
        from ddpmkit.testing import checks_text

        click.echo(checks_text([kind] if kind else KINDS), nl=False)
        return
    of_one = {"--set": settings, "--xfail": xfail, "--timesteps": timesteps}
    if name is None and (given := [option for option, values in of_one.items() if values]):
        raise click.UsageError(f"{given[0]} needs the NAME of a component.")
    registry = plugins.registry()
    if name is None:
        entries = [entry for k in ([kind] if kind else KINDS) for entry in registry.of_kind(k)]
        passed = print_all(terminal, entries, _check_quietly)
    else:
        options = {"settings": _settings(settings), "xfail": _xfail_reasons(xfail), "timesteps": timesteps}
        results = [_check_one(terminal, entry, options) for entry in find_components(registry, name, kind)]
        passed = all(results)
    if not passed:
        ctx.exit(1)


def _check_one(terminal: Terminal, entry: "RegisteredComponent", options: Mapping[str, Any]) -> bool:
    """Print one line per check as it runs; return whether all passed. Raises InputError for unusable options."""
    from ddpmkit.testing import conformance_checks

    try:
        checks = conformance_checks(entry, **options)
    except PluginError as error:
        terminal.show_error(error)
        return False
    print_header(terminal, entry)
    column = max(len(item.id) for item in checks)
    outcomes: list[Outcome] = []
    for item in checks:
        outcomes.append(run_check(item))
        print_outcome(terminal, outcomes, column)
    print_totals(terminal, outcomes)
    return all(outcome.good for outcome in outcomes)


def _check_quietly(entry: "RegisteredComponent") -> CheckedComponent:
    """Run all checks of a component, if it can be checked without settings."""
    from ddpmkit.recipe import RecipeError
    from ddpmkit.testing import conformance_checks

    if entry.kind == "tracker":
        return CheckedComponent(skipped=_TRACKER_SKIPPED)
    began = time.perf_counter()
    try:
        outcomes = tuple(run_check(item) for item in conformance_checks(entry))
    except PluginError as error:
        return CheckedComponent(broken=error.message)
    except ComponentUnavailable as error:
        return CheckedComponent(
            skipped=textwrap.shorten(f"it is not available here: {error.message}", 100, placeholder=" ...")
        )
    except RecipeError as error:
        return CheckedComponent(skipped="; ".join(problem.message for problem in error.problems))
    return CheckedComponent(outcomes, seconds=time.perf_counter() - began)


def _settings(texts: Sequence[str]) -> dict[str, Any]:
    """Return the config keys given with `--set`. Raises RecipeError for malformed ones."""
    from ddpmkit.recipe import Problem, RecipeError
    from ddpmkit.recipe.layers import MergedRecipe, parse_override

    tree = MergedRecipe("--set")
    for item in map(parse_override, texts):
        if isinstance(item, Problem):
            tree.problems.append(item)
        else:
            tree.override(item)
    if tree.problems:
        raise RecipeError(tree.problems)
    return tree.values


def _xfail_reasons(texts: Sequence[str]) -> dict[str, str]:
    """Return the reasons given with `--xfail`, by check id."""
    reasons = {}
    for text in texts:
        name, equals, reason = text.partition("=")
        if not equals:
            raise click.UsageError(f"--xfail {text} is not of the form ID=REASON.")
        reasons[name] = reason
    return reasons
