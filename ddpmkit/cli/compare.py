"""`ddpmkit compare`."""

from pathlib import Path

import click

from ddpmkit.cli.options import path_type
from ddpmkit.cli.terminal import Terminal

__all__ = ["compare"]


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=path_type)
@click.option("--out", metavar="FILE", type=path_type, help="Write a page, with curves and samples.")
@click.pass_obj
def compare(terminal: Terminal, runs: tuple[Path, ...], out: Path | None) -> None:
    """Set runs side by side: recipes and scores.

    What differs in their recipes, and their newest scores. Scores that were taken by unlike rules are shown and not
    ranked, with the reason; those that a person asked for (ddpmkit evaluate) stand apart from the runs' own.

    \b
    ddpmkit compare results/linear_huber results/quickstart
    ddpmkit compare results/ablation_cat/* --out comparison.html
    """
    from ddpmkit.cli.comparison_tables import differences, score_tables
    from ddpmkit.report.comparison import differing_keys, loss_remark, read_runs, write_comparison
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
        terminal.out.print("nothing differs: these are runs of one recipe")
    ranked = list(rankings([(run.name, run.scores) for run in read]))
    losses = [f"{run.history.last['loss']:.4g}" if run.history.last is not None else "" for run in read]
    steps = [f"{run.step:,}" if run.history.last is not None else "" for run in read]
    columns = [("last step", steps), ("last loss", losses)]
    columns += [
        (each.title, [f"{text} *" if n == each.best else text for n, text in enumerate(each.texts)]) for each in ranked
    ]
    for table in score_tables(names, columns, width):
        terminal.out.print(table)
    remarks = [f"last loss: {remark}"] if (remark := loss_remark(differing)) else []
    for remark in dict.fromkeys([*remarks, *(f"{each.title}: {each.remark}" for each in ranked)]):
        for line in terminal.lines(remark, 0):
            terminal.out.print(line)
    if out is not None:
        terminal.out.print(str(write_comparison(read, out)))
