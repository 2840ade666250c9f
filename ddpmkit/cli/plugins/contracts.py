"""`ddpmkit plugins contracts`: print what a component must do, and what a plugin may import."""

import click

from ddpmkit.contracts import KINDS

__all__ = ["contracts"]


@click.command()
@click.argument("kind", type=click.Choice(KINDS), required=False)
def contracts(kind: str | None) -> None:
    """Print what a component of KIND must do, as Markdown; without KIND, everything that a plugin may import.

    \b
    ddpmkit plugins contracts sampler
    """
    from ddpmkit.plugin.api_reference import contracts_text

    click.echo(contracts_text() if kind is None else contracts_text([kind], {}), nl=False)
