"""`ddpmkit visualize`: write images of the forward and the reverse process."""

from pathlib import Path

import click

from ddpmkit.cli.options import PluginChoice, plugin_options, run_argument, seed_option, set_option, trust_option
from ddpmkit.cli.terminal import Terminal

__all__ = ["visualize"]


@click.command()
@run_argument
@seed_option
@set_option
@trust_option
@plugin_options
@click.pass_obj
def visualize(
    terminal: Terminal,
    run_folder: Path,
    seed: int | None,
    overrides: tuple[str, ...],
    trust: bool,
    plugins: PluginChoice,
) -> None:
    """Show the forward and the reverse process as images.

    RUN is a run folder, or one checkpoint in it. Writes five moments (0, 25, 50 and 75 %, and the end) as the strips
    viz/forward.png and viz/backward.png in the run folder, and each moment as a file of its own.

    \b
    ddpmkit visualize results/quickstart
    """
    from ddpmkit.cli.live_panel import open_display

    with open_display(terminal) as display:
        from ddpmkit.experiment import load

        run = load(run_folder, overrides=overrides, registry=plugins.registry(), trust=trust, purpose="visualize")
        images = run.visualize(seed=seed, display=display)
    for image in images:
        terminal.out.print(str(image.path))
