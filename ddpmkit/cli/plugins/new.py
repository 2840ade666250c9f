"""`ddpmkit plugins new`: begin a plugin.

It does not know what is in the files.
"""

import shlex
from pathlib import Path

import click

from ddpmkit.cli.options import path_type
from ddpmkit.cli.terminal import Terminal
from ddpmkit.contracts import KINDS

__all__ = ["new"]


@click.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What it will be.")
@click.option(
    "--out",
    "folder",
    metavar="FOLDER",
    type=path_type,
    help="Where to write the package.  [default: ddpmkit-NAMESPACE-NAME]",
)
@click.pass_obj
def new(terminal: Terminal, name: str, kind: str, folder: Path | None) -> None:
    """Begin a plugin: a package with one component that works, and passes every check.

    NAME is what recipes will write: a namespace of your own and the component's name, as in acme/zigzag (acme-zigzag is
    the same). Nothing is overwritten.

    \b
    ddpmkit plugins new acme/zigzag --kind schedule
    """
    from ddpmkit.scaffold import PluginName, write_package

    plugin = PluginName.parse(name)
    folder = folder or Path(plugin.distribution)
    files = write_package(plugin, kind, folder)
    terminal.out.print(f"{kind} {plugin}", style="bold")
    for path in sorted(files):
        terminal.out.print(f"  {folder / path}")
    place = folder if folder.is_absolute() else f"./{folder}"
    terminal.out.print("\nnext", style="bold")
    for line in (
        f"pip install -e {shlex.quote(f'{place}[test]')}",
        f"ddpmkit plugins check {plugin} --kind {kind}",
        f"ddpmkit run {shlex.quote(str(folder / 'example.toml'))}",
    ):
        terminal.out.print(f"  {line}")
