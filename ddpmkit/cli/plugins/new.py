"""`ddpmkit plugins new`: write a new plugin from a template."""

import shlex
from pathlib import Path

import click

from ddpmkit.cli.options import path_type
from ddpmkit.cli.terminal import Terminal
from ddpmkit.contracts import KINDS

__all__ = ["new"]


@click.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="The kind of the component.")
@click.option(
    "--out",
    "folder",
    metavar="FOLDER",
    type=path_type,
    help="The folder of the new package.  [default: ddpmkit-NAMESPACE-NAME]",
)
@click.pass_obj
def new(terminal: Terminal, name: str, kind: str, folder: Path | None) -> None:
    """Create a plugin: a package with one working component that passes every check.

    NAME is the name to use in recipes: a namespace of your own and the component's name, as in acme/zigzag (or
    acme-zigzag). No file is overwritten.

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
