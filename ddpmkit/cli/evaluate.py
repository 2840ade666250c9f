"""`ddpmkit evaluate`: compute every metric of the recipe for a trained run."""

from pathlib import Path

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
from ddpmkit.contracts import Scores

__all__ = ["describe_scores", "evaluate"]


@click.command()
@run_argument
@click.option(
    "--num-samples",
    type=click.IntRange(min=2),
    help="The number of images to generate.  [default: the recipe's]",
)
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
    """Evaluate a trained run with every metric of its recipe.

    RUN is a run folder, or one checkpoint in it. Prints an estimate of the cost first. Each score is shown with the
    protocol behind it, and with its floor: the score of real images against other real images.

    \b
    ddpmkit evaluate results/afhq_cat
    ddpmkit evaluate results/afhq_cat --num-samples 1000
    ddpmkit evaluate results/quickstart --set 'metric=[{use="clean-fid"}]'
    """
    from ddpmkit.cli.live_panel import open_display

    with open_display(terminal) as display:
        from ddpmkit.experiment import load
        from ddpmkit.experiment.evaluation import check_finite

        run = load(run_folder, overrides=overrides, registry=plugins.registry(), trust=trust, purpose="evaluate")
        outcomes: list[Scores] = []
        try:
            for scores in run.evaluations(
                num_samples=num_samples, skip_unavailable_metrics=skip_unavailable_metrics, display=display
            ):
                outcomes.append(scores)
        finally:
            # Show the finished scores even if a later metric fails or is interrupted.
            for scores in outcomes:
                for line in aligned(describe_scores(scores)):
                    terminal.out.print(line)
    if not outcomes:
        terminal.show_note("no scores: none of the run's metrics is available here")
    for scores in outcomes:
        check_finite(scores)


def describe_scores(scores: Scores) -> list[tuple[str, str]]:
    """Label and text of each line: the scores with their floors, then sample count, reference and every other fact."""
    lines = [("metric", f"{scores.metric} ({scores.protocol} protocol)"), ("step", f"{scores.step:,}")]
    lines += [(name, _value(scores, name)) for name in scores.values]
    lines += [(name, f"{text} (not a finite number)") for name, text in scores.unusable.items()]
    if not scores.comparable:
        lines.append(("comparable", f"no: scores of the {scores.protocol} protocol cannot be compared with others"))
    facts = dict(scores.facts)
    lines.append(("samples", f"{scores.num_samples:,}"))
    lines.append(("reference", f"{scores.num_reference:,} images: {facts.pop('reference', 'chosen by the metric')}"))
    return [*lines, *facts.items()]


def _value(scores: Scores, name: str) -> str:
    notes = [f"{scores.better[name]} is better"] if scores.better.get(name, "neither") != "neither" else []
    if name in scores.floor:
        notes.append(f"floor, real against real: {scores.floor[name]:.4g}")
    text = f"{scores.values[name]:.4g}"
    return f"{text} ({'; '.join(notes)})" if notes else text
