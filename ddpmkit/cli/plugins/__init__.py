"""`ddpmkit plugins`: list, show, check and create components."""

import click

from ddpmkit.cli.plugins.check import check
from ddpmkit.cli.plugins.contracts import contracts
from ddpmkit.cli.plugins.listing import list_, show
from ddpmkit.cli.plugins.new import new

__all__ = ["plugins"]


@click.group()
def plugins() -> None:
    """List, show, check and create components."""


for command in (list_, show, check, contracts, new):
    plugins.add_command(command)
