"""`ddpmkit checkpoint`: verify the checkpoints of a run."""

from pathlib import Path

import click

from ddpmkit.cli.options import run_argument
from ddpmkit.cli.terminal import Terminal, aligned
from ddpmkit.errors import InputError

__all__ = ["checkpoint"]


@click.group()
def checkpoint() -> None:
    """Verify the checkpoints of a run."""


@checkpoint.command()
@run_argument
@click.pass_context
def verify(ctx: click.Context, run_folder: Path) -> None:
    """Read a run's checkpoints and snapshots completely, and list which are intact.

    RUN is a run folder, or one checkpoint in it. Nothing is changed. Exits with code 1 if one is damaged.

    \b
    ddpmkit checkpoint verify results/afhq_cat
    """
    from ddpmkit.checkpoint import checkpoint_folders, open_checkpoint
    from ddpmkit.run_folder import not_a_run

    terminal: Terminal = ctx.obj
    alone = (run_folder / "manifest.json").exists()
    folders = [run_folder] if alone else checkpoint_folders(run_folder / "checkpoints")
    if not folders:
        place = (run_folder / "checkpoints").absolute()
        raise not_a_run(run_folder, f"contains no checkpoint (looked in {place})")
    snapshots = [] if alone else checkpoint_folders(run_folder / "snapshots")
    findings = []
    for folder in [*folders, *snapshots]:
        name = f"snapshots/{folder.name}" if folder in snapshots else folder.name
        try:
            open_checkpoint(folder)
            findings.append((name, "intact"))
        except InputError as error:  # damaged, or of a newer format
            if folder.exists():  # a run in progress removes its older ones
                findings.append((name, error.message))
    for line in aligned(findings):
        terminal.out.print(line)
    if any(finding != "intact" for _, finding in findings):
        ctx.exit(1)
