"""`ddpmkit visualize`."""

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
    """Picture how images become noise, and noise becomes images.

    RUN is its folder, or one checkpoint in it. Writes five moments (0, 25, 50, 75 % of the way, and the end) as
    strips, viz/forward.png and viz/backward.png in the folder, and each moment as an image of its own.

    \b
    ddpmkit visualize results/quickstart
    """
    from ddpmkit.cli.live_panel import open_display

    with open_display(terminal) as display:
        from ddpmkit.experiment import load

        run = load(run_folder, overrides=overrides, registry=plugins.registry(), trust=trust, purpose="visualize")
        pictures = run.visualize(seed=seed, display=display)
    for picture in pictures:
        terminal.out.print(str(picture.path))
