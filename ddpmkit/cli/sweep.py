"""`ddpmkit sweep`: run a recipe several times, each with other values of some keys."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddpmkit.cli.options import PluginChoice, path_type, plugin_options, set_option, skip_metrics_option, trust_option
from ddpmkit.cli.terminal import Terminal
from ddpmkit.errors import RunFailed

if TYPE_CHECKING:
    from rich.table import Table

    from ddpmkit.experiment.sweep import SweepOutcome
    from ddpmkit.recipe import SweepRun

__all__ = ["sweep"]


@click.command()
@click.argument("recipe", type=path_type)
@click.option(
    "--out",
    metavar="DIR",
    type=path_type,
    help="The folder to write the run folders to.  [default: results/RECIPE_NAME]",
)
@click.option("--dry-run", is_flag=True, help="List the runs without starting them.")
@set_option
@skip_metrics_option
@trust_option
@plugin_options
@click.pass_context
def sweep(
    ctx: click.Context,
    recipe: Path,
    out: Path | None,
    dry_run: bool,
    overrides: tuple[str, ...],
    skip_unavailable_metrics: bool,
    trust: bool,
    plugins: PluginChoice,
) -> None:
    """Run all variants of RECIPE that its [sweep] section defines.

    The variants run one after another, each in a folder of its own; a failed one does not stop the others. To resume
    a stopped sweep or retry failed runs, give the same command again.

    \b
    ddpmkit sweep recipes/ablation_cat.toml --dry-run
    ddpmkit sweep recipes/ablation_cat.toml --set train.steps=500
    """
    from ddpmkit.recipe import read_sweep

    terminal: Terminal = ctx.obj
    registry = plugins.registry()
    name, runs = read_sweep(recipe, overrides=overrides, registry=registry, trust=trust)
    if dry_run:
        terminal.out.print(_plan(runs))
        return
    from ddpmkit.cli.live_panel import open_display
    from ddpmkit.cli.stop_signals import StopRequest

    outcomes: list[SweepOutcome] = []
    with StopRequest(terminal.show_note) as stop:
        try:
            from ddpmkit.experiment.sweep import sweep as run_sweep

            for item in runs:
                terminal.show_note(f"run {item.name}, {len(outcomes) + 1} of {len(runs)}")
                with open_display(terminal) as display:
                    outcomes += run_sweep(
                        [item],
                        out or Path("results") / name,
                        registry=registry,
                        skip_unavailable_metrics=skip_unavailable_metrics,
                        display=display,
                        stop=stop,
                    )
                if outcomes[-1].problem:
                    terminal.show_note(f"{item.name} failed: {outcomes[-1].problem}")
                if outcomes[-1].status == "stopped":
                    break
        except KeyboardInterrupt:
            terminal.show_note("interrupted")
            ctx.exit(stop.exit_code)
        finally:
            if outcomes:
                terminal.out.print(_results(outcomes))
    if outcomes[-1].status == "stopped":
        ctx.exit(stop.exit_code)
    if any(outcome.status == "failed" for outcome in outcomes):
        ctx.exit(RunFailed.exit_code)


def _plan(runs: "Sequence[SweepRun]") -> "Table":
    """Return a row per run and a column per key that varies; empty if the run does not change the key."""
    keys = _keys(runs)
    return _table(["run", *keys], [[run.name, *_values(run, keys)] for run in runs])


def _results(outcomes: "Sequence[SweepOutcome]") -> "Table":
    """Return the plan with the status and the numbers of each run."""
    found = [outcome.numbers for outcome in outcomes]
    names = list(dict.fromkeys(name for numbers in found for name in numbers))
    keys = _keys([outcome.run for outcome in outcomes])
    rows = [
        [
            *(outcome.run.name, *_values(outcome.run, keys), outcome.status),
            *(f"{numbers[name]:.4g}" if name in numbers else "" for name in names),
        ]
        for outcome, numbers in zip(outcomes, found, strict=True)
    ]
    return _table(["run", *keys, "status", *names], rows)


def _keys(runs: "Sequence[SweepRun]") -> list[str]:
    return list(dict.fromkeys(key for run in runs for key in run.changes))


def _values(run: "SweepRun", keys: Sequence[str]) -> list[str]:
    return [_text(run.changes[key]) if key in run.changes else "" for key in keys]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _text(value: object) -> str:
    from ddpmkit.recipe import toml_value

    return value if isinstance(value, str) else toml_value(value)
