"""`ddpmkit compare`: compare the scores and the recipes of several runs."""

from pathlib import Path

import click

from ddpmkit.cli.options import path_type
from ddpmkit.cli.terminal import Terminal

__all__ = ["compare"]


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=path_type)
@click.option("--out", metavar="FILE", type=path_type, help="Also write an HTML page with curves and samples.")
@click.pass_obj
def compare(terminal: Terminal, runs: tuple[Path, ...], out: Path | None) -> None:
    """Compare the recipes and scores of runs.

    Shows the recipe keys that differ, and the latest scores; the best score is marked with *. Scores measured in
    different ways are not ranked, and the reason is shown. Scores by `ddpmkit evaluate` are listed separately.

    \b
    ddpmkit compare results/linear_huber results/quickstart
    ddpmkit compare results/ablation_cat/* --out comparison.html
    """
    from ddpmkit.cli.comparison_tables import differences, score_tables
    from ddpmkit.report.comparison import differing_keys, loss_note, read_runs, write_comparison
    from ddpmkit.report.ranking import rankings
    from ddpmkit.run_folder import check_replaceable

    if out is not None:
        check_replaceable([out])
    read = read_runs(runs)
    names, width = [run.name for run in read], terminal.out.width
    differing = differing_keys(read)
    if differing:
        for shown in differences(names, differing, width):
            terminal.out.print(shown)
    else:
        terminal.out.print("nothing differs: the runs have the same recipe")
    ranked = list(rankings([(run.name, run.scores) for run in read]))
    losses = [f"{run.history.last['loss']:.4g}" if run.history.last is not None else "" for run in read]
    steps = [f"{run.step:,}" if run.history.last is not None else "" for run in read]
    columns = [("last step", steps), ("last loss", losses)]
    columns += [
        (each.title, [f"{text} *" if n == each.best else text for n, text in enumerate(each.texts)]) for each in ranked
    ]
    for table in score_tables(names, columns, width):
        terminal.out.print(table)
    notes = [f"last loss: {note}"] if (note := loss_note(differing)) else []
    for note in dict.fromkeys([*notes, *(f"{each.title}: {each.note}" for each in ranked)]):
        for line in terminal.lines(note, 0):
            terminal.out.print(line)
    if out is not None:
        terminal.out.print(str(write_comparison(read, out)))
