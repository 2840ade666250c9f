"""`ddpmkit compare`."""

from collections.abc import Sequence
from pathlib import Path

import click

from ddpmkit.cli.options import given_path
from ddpmkit.cli.terminal import Terminal

__all__ = ["compare"]


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=given_path)
@click.option("--out", metavar="FILE", type=given_path, help="Write a page, with curves and samples.")
@click.pass_obj
def compare(terminal: Terminal, runs: tuple[Path, ...], out: Path | None) -> None:
    """Set runs side by side: recipes and scores.

    What differs in their recipes, and their newest scores. Scores that were taken by unlike rules are shown and not
    ranked, with the reason.

    \b
    ddpmkit compare results/linear_huber results/quickstart
    ddpmkit compare results/ablation_cat/* --out comparison.html
    """
    from ddpmkit.report.comparison import differing_keys, rankings, read_runs, write_comparison
    from ddpmkit.rundir import check_replaceable

    if out is not None:
        check_replaceable([out])
    read = read_runs(runs)
    names = [run.name for run in read]
    differing = differing_keys(read)
    if differing:
        _print(terminal, ["key", *names], [[key, *values] for key, values in differing])
    else:
        terminal.out.print("nothing differs: these are runs of one recipe")
    rows = [
        [ranking.title, *(_number(value, place == ranking.best) for place, value in enumerate(ranking.values))]
        for ranking in rankings(read)
    ]
    remarks = [f"{ranking.title}: {ranking.remark}" for ranking in rankings(read)]
    losses = [run.history.last["loss"] if run.history.last is not None else None for run in read]
    _print(terminal, ["", *names], [["last loss", *(_number(loss, False) for loss in losses)], *rows])
    for remark in dict.fromkeys(remarks):
        terminal.out.print(remark, highlight=False)
    if out is not None:
        terminal.out.print(str(write_comparison(read, out)))


def _number(value: float | None, is_best: bool) -> str:
    if value is None:
        return "-"
    return f"{value:.4g} *" if is_best else f"{value:.4g}"


def _print(terminal: Terminal, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    terminal.out.print(table)
