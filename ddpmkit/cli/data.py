"""`ddpmkit data`: download and check training images."""

import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from rich.console import Console

from ddpmkit.cli.inspection_report import report_lines
from ddpmkit.cli.options import PluginChoice, path_type, plugin_options, set_option, trust_option
from ddpmkit.cli.terminal import Terminal

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

__all__ = ["data"]

_DEFAULT = Path("data/afhq")
_FOLDERS = "image-folder"
"""The dataset that reads a folder given without a recipe."""
_AFHQ_LICENCE = (
    "AFHQ (Choi et al. 2020, https://github.com/clovaai/stargan-v2) is licensed under CC BY-NC 4.0: credit its "
    "authors; commercial use is not allowed."
)


@click.group()
def data() -> None:
    """Download and check training images."""


@data.command()
@click.argument("name", metavar="afhq", type=click.Choice(["afhq"]))
@click.option("--version", type=click.Choice(["1", "2"]), default="1", show_default=True, help="The version of AFHQ.")
@click.option(
    "--out",
    metavar="DIR",
    type=path_type,
    default=_DEFAULT,
    show_default=True,
    help="The folder to write train/ and val/ to.",
)
@click.option("--url", help="Download the archive from this URL instead.")
@click.pass_obj
def fetch(terminal: Terminal, name: str, version: Literal["1", "2"], out: Path, url: str | None) -> None:  # noqa: ARG001 -- the only data set so far
    """Download AFHQ: about 15,000 images of cats, dogs and wild animals.

    An interrupted download is resumed if the server still has the same file.

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


@data.command()
@click.argument("source", metavar="FOLDER|RECIPE", type=path_type)
@set_option
@trust_option
@plugin_options
@click.pass_context
def check(ctx: click.Context, source: Path, overrides: tuple[str, ...], trust: bool, plugins: PluginChoice) -> None:
    """Read every image of a folder or a recipe, and list those that cannot be used.

    Images are counted by split and class, and files with the same content are listed. Exits with code 1 if a file
    cannot be used, 2 if the folder does not exist.

    \b
    ddpmkit data check data/afhq
    ddpmkit data check recipes/afhq_cat.toml --set data.root=elsewhere
    """
    from ddpmkit.data.inspection import inspect_data
    from ddpmkit.recipe import read_recipe, reject_unused_overrides

    terminal: Terminal = ctx.obj
    # A folder is checked like a recipe that contains only the path of its images.
    recipe = source if source.suffix == ".toml" else {"data": {"use": _FOLDERS, "root": str(source)}}
    reject_unused_overrides(overrides, ["data"], "ddpmkit data check")
    resolved = read_recipe(recipe, overrides=overrides, registry=plugins.registry(), trust=trust)
    with _reading_bar(terminal.err) as progress:
        found = inspect_data(resolved.data, progress)
    for line in report_lines(found):
        terminal.out.print(line)
    if found.bad:
        ctx.exit(1)


@contextlib.contextmanager
def _download_bar(console: Console) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar of bytes; its value is called with done and total. Hidden if the terminal cannot redraw lines."""
    from rich.progress import DownloadColumn, TransferSpeedColumn

    with _bar(console, "downloading", DownloadColumn(), TransferSpeedColumn()) as update:
        yield update


@contextlib.contextmanager
def _reading_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A progress bar of files; its value is called with done and total. Hidden if the terminal cannot redraw lines."""
    from rich.progress import MofNCompleteColumn

    with _bar(console, "reading", MofNCompleteColumn()) as update:
        yield update


@contextlib.contextmanager
def _bar(console: Console, description: str, *columns: "ProgressColumn") -> Iterator[Callable[[int, int | None], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    shown = (TextColumn("{task.description}"), BarColumn(bar_width=None), *columns, TimeRemainingColumn())
    with Progress(*shown, console=console, expand=True, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
