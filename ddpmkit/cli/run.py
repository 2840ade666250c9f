"""`ddpmkit run`."""

from pathlib import Path

import click

from ddpmkit.cli.options import PluginChoice, path_type, plugin_options, set_option, skip_metrics_option, trust_option
from ddpmkit.cli.terminal import Terminal
from ddpmkit.errors import RunFailed

__all__ = ["run"]


@click.command()
@click.argument("recipe", type=path_type)
@click.option("--out", metavar="DIR", type=path_type, help="The run's folder.  [default: results/RECIPE_NAME]")
@set_option
@skip_metrics_option
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Go on with a run although its images, its loss or its training changed meanwhile.",
)
@trust_option
@plugin_options
@click.pass_context
def run(
    ctx: click.Context,
    recipe: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    skip_unavailable_metrics: bool,
    accept_changes: bool,
    trust: bool,
    plugins: PluginChoice,
) -> None:
    """Train, sample and score by RECIPE, a TOML file.

    The same command again goes on from the last checkpoint. Ctrl-C saves the run and stops it.

    \b
    ddpmkit run recipes/quickstart.toml
    ddpmkit run recipes/afhq_cat.toml --set train.steps=2000 --out results/short
    """
    from ddpmkit.cli.live_panel import open_display
    from ddpmkit.cli.stop_signals import StopRequest
    from ddpmkit.cli.summary import summary
    from ddpmkit.plugin.finder import file_options
    from ddpmkit.recipe import read_recipe

    terminal: Terminal = ctx.obj
    registry = plugins.registry()
    # Read before torch is imported, so that a slip in it is told at once.
    resolved = read_recipe(recipe, overrides=overrides, registry=registry, trust=trust)
    if out is None and recipe.name == "recipe.lock.toml":
        folder = Path("results") / resolved.name
        terminal.show_note(f"this lock file starts a run in {folder}; --out {recipe.parent} resumes its own run")
    display = open_display(terminal)
    with StopRequest(display.message) as stop:
        try:
            with display:
                from ddpmkit import experiment

                ended = experiment.run(
                    resolved,
                    out,
                    registry=registry,
                    skip_unavailable_metrics=skip_unavailable_metrics,
                    accept_changes=accept_changes,
                    trust=trust,
                    display=display,
                    stop=stop,
                ).ended
        except KeyboardInterrupt:
            terminal.show_note("interrupted")
            ctx.exit(stop.exit_code)
        finally:
            for line in summary(display.status, file_options(plugins.files)):
                terminal.out.print(line)
    # What the run itself says: a display that failed has not heard how it ended.
    if ended is not None and ended.status == "stopped":
        ctx.exit(stop.exit_code)
    if ended is not None and ended.problems:
        ctx.exit(RunFailed.exit_code)
