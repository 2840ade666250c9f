"""`ddpmkit evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddpmkit.cli.options import (
    PluginChoice,
    plugin_options,
    run_argument,
    set_option,
    skip_metrics_option,
    trust_option,
)
from ddpmkit.cli.terminal import Terminal, aligned

if TYPE_CHECKING:
    from ddpmkit.contracts import Scores

__all__ = ["evaluate"]


@click.command()
@run_argument
@click.option("--num-samples", type=click.IntRange(min=2), help="Images to draw.  [default: the recipe's]")
@skip_metrics_option
@set_option
@trust_option
@plugin_options
@click.pass_obj
def evaluate(
    terminal: Terminal,
    run_folder: Path,
    num_samples: int | None,
    skip_unavailable_metrics: bool,
    overrides: tuple[str, ...],
    trust: bool,
    plugins: PluginChoice,
) -> None:
    """Score a run by every metric of its recipe.

    RUN is its folder, or one checkpoint in it. Says first what that will cost. A score says how
    it was taken, and what real images score against real ones.

    \b
    ddpmkit evaluate results/afhq_cat
    ddpmkit evaluate results/afhq_cat --num-samples 1000
    ddpmkit evaluate results/quickstart --set 'metric=[{use="clean-fid"}]'
    """
    from ddpmkit.cli.display import open_display

    with open_display(terminal) as display:
        from ddpmkit.evaluation import describe_scores
        from ddpmkit.experiment import load
        from ddpmkit.experiment.artifacts import refuse_unusable

        run = load(run_folder, overrides=overrides, registry=plugins.registry(), trust=trust, purpose="evaluate")
        outcomes: list[Scores] = []
        try:
            for scores in run.evaluations(
                num_samples=num_samples, skip_unavailable_metrics=skip_unavailable_metrics, display=display
            ):
                outcomes.append(scores)
        finally:
            # What was measured is shown, even if the next metric fails or is interrupted.
            for scores in outcomes:
                for line in aligned(describe_scores(scores)):
                    terminal.out.print(line)
    if not outcomes:
        terminal.show_note("no score was made: no metric of this run is available here")
    for scores in outcomes:
        refuse_unusable(scores)
