"""`ddpmkit recipe`: check recipes, show them resolved, and print their schema and keys."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddpmkit.cli.options import PluginChoice, path_type, plugin_options, set_option
from ddpmkit.cli.terminal import Terminal
from ddpmkit.errors import InputError
from ddpmkit.plural import counted

if TYPE_CHECKING:
    from ddpmkit.recipe import Recipe

__all__ = ["recipe"]

_file = path_type


@click.group()
def recipe() -> None:
    """Check and show recipes."""


@recipe.command()
@click.argument("files", metavar="RECIPE...", type=_file, nargs=-1, required=True)
@set_option
@plugin_options
@click.pass_obj
def check(terminal: Terminal, files: tuple[Path, ...], overrides: tuple[str, ...], plugins: PluginChoice) -> None:
    """Check recipes without running them, and show all errors at once.

    Exits with code 2 if a recipe cannot be used.
    """
    from ddpmkit.recipe import RecipeError, missing_code, read_sweep
    from ddpmkit.recipe.problems import one_line

    registry, bad = plugins.registry(), 0
    for file in files:
        try:
            _, runs = read_sweep(file, overrides=overrides, registry=registry)
            if absent := dict.fromkeys(problem for run in runs for problem in missing_code(run.recipe, str(file))):
                raise RecipeError(absent)
        except InputError as error:
            terminal.show_error(error)
            bad += 1
        else:
            many = f"a sweep of {len(runs)} runs: " if len(runs) > 1 else ""
            click.echo(one_line(f"{file}: ok ({many}{_summary(runs[0].recipe)})"))
            for note in dict.fromkeys(note for run in runs for note in run.recipe.notes):
                click.echo(f"  - {note}")
    if bad:
        raise click.exceptions.Exit(InputError.exit_code)


@recipe.command()
@click.argument("file", metavar="RECIPE", type=_file)
@click.option("--origins", is_flag=True, help="Show which file and line set each key.")
@set_option
@plugin_options
@click.pass_obj
def show(terminal: Terminal, file: Path, origins: bool, overrides: tuple[str, ...], plugins: PluginChoice) -> None:
    """Print a recipe with the recipes it extends merged and all defaults filled in."""
    from rich.syntax import Syntax

    from ddpmkit.recipe import read_recipe

    shown = read_recipe(file, overrides=overrides, registry=plugins.registry())
    text = _with_origins(shown) if origins else shown.to_toml()
    if terminal.out.is_terminal:
        terminal.out.print(Syntax(text.rstrip(), "toml", background_color="default"))
    else:
        click.echo(text, nl=False)


@recipe.command()
@plugin_options
def schema(plugins: PluginChoice) -> None:
    """Print the JSON schema of recipes, for editors, with the keys of every installed component."""
    from ddpmkit.recipe import schema_text

    click.echo(schema_text(plugins.registry()), nl=False)


@recipe.command()
@plugin_options
def keys(plugins: PluginChoice) -> None:
    """Print every key of a recipe with its default, as Markdown."""
    from ddpmkit.recipe import keys_text

    click.echo(keys_text(plugins.registry()), nl=False)


def _summary(recipe: "Recipe") -> str:
    """Return the recipe in one line."""
    channels, height, width = recipe.data.settings.image_shape
    parts = (recipe.data, recipe.backbone, recipe.schedule, recipe.loss, recipe.sampler)
    return (
        f"{recipe.name}: {', '.join(part.component.use for part in parts)}; {counted(recipe.train.steps, 'step')} at "
        f"{height} x {width} px, {'grayscale' if channels == 1 else 'colour'}, T = {recipe.diffusion.timesteps}"
    )


def _with_origins(recipe: "Recipe") -> str:
    """Return the resolved recipe with the origin of each key."""
    from ddpmkit.recipe import toml_lines
    from ddpmkit.recipe.problems import one_line

    lines = list(toml_lines(recipe.as_data()))
    width = max(len(line.text) for line in lines if line.key)
    out = []
    for line in lines:
        origin = one_line(f"  # {recipe.origins.get(line.key, 'default')}") if line.key else ""
        out.append(f"{line.text.ljust(width) if line.key else line.text}{origin}\n")
    return "".join(out)
