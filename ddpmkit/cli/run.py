"""`ddpmkit run`: train, sample and evaluate as a recipe defines, or resume the run."""

from pathlib import Path

import click

from ddpmkit.cli.options import PluginChoice, path_type, plugin_options, set_option, skip_metrics_option, trust_option
from ddpmkit.cli.terminal import Terminal
from ddpmkit.errors import RunFailed

__all__ = ["run"]


@click.command()
@click.argument("recipe", type=path_type)
@click.option("--out", metavar="DIR", type=path_type, help="The run folder.  [default: results/RECIPE_NAME]")
@set_option
@skip_metrics_option
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Resume the run although its images, loss or training settings have changed.",
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
    """Train a model from RECIPE, generate samples and evaluate it.

    RECIPE is a TOML file. Ctrl-C saves the run and stops it. To resume, give the same command again.

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
    # Read before torch is imported, so that errors in it are shown without delay.
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
    # From the run itself: a display that failed has no result.
    if ended is not None and ended.status == "stopped":
        ctx.exit(stop.exit_code)
    if ended is not None and ended.problems:
        ctx.exit(RunFailed.exit_code)
