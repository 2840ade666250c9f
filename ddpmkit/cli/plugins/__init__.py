"""`ddpmkit plugins`: what is installed, what each component takes, whether it behaves, and how to begin a new one.

It does not know what a component does.
"""

import click

from ddpmkit.cli.plugins.check import check
from ddpmkit.cli.plugins.contracts import contracts
from ddpmkit.cli.plugins.listing import list_, show
from ddpmkit.cli.plugins.new import new

__all__ = ["plugins"]


@click.group()
def plugins() -> None:
    """List, show, check and begin components."""


for command in (list_, show, check, contracts, new):
    plugins.add_command(command)
