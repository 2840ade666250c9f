"""`ddpmkit data`."""

import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import click
from rich.console import Console

from ddpmkit.cli.terminal import Terminal

__all__ = ["data"]

_DEFAULT = Path("data/afhq")
_AFHQ_LICENCE = (
    "AFHQ (Choi et al. 2020, https://github.com/clovaai/stargan-v2) is licensed CC BY-NC 4.0: name its authors, and no "
    "commercial use."
)


@click.group()
def data() -> None:
    """Get pictures to train on."""


@data.command()
@click.argument("name", metavar="afhq", type=click.Choice(["afhq"]))
@click.option("--version", type=click.Choice(["1", "2"]), default="1", show_default=True, help="Which AFHQ.")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=_DEFAULT,
    show_default=True,
    help="The folder that will hold train/ and val/.",
)
@click.option("--url", help="Another place to download the archive from.")
@click.pass_obj
def fetch(terminal: Terminal, name: str, version: Literal["1", "2"], out: Path, url: str | None) -> None:  # noqa: ARG001 -- there is one data set as yet
    """Download AFHQ, some 15,000 faces of cats, dogs and wild animals.

    An interrupted download goes on where it was.

    \b
    ddpmkit data fetch afhq
    """
    from ddpmkit.data.fetch import fetch_afhq

    terminal.show_note(_AFHQ_LICENCE)
    with _download_bar(terminal.err) as progress:
        folder = fetch_afhq(out, int(version), url=url, progress=progress)
    terminal.out.print(str(folder))
    where = "" if out == _DEFAULT else f" --set data.root={shlex.quote(str(folder))}"
    terminal.show_note(f"next: ddpmkit run recipes/afhq_cat_warmup.toml{where}")


@contextlib.contextmanager
def _download_bar(console: Console) -> Iterator[Callable[[int, int | None], None]]:
    """A bar that is told how many bytes are here, and of how many; nothing where nothing can be redrawn."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, expand=True, transient=True) as bar:
        task = bar.add_task("downloading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
