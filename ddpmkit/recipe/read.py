"""`read_recipe`: a file or plain data in, a checked recipe or all its errors out.

It does not know what is done with a recipe.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.layers import file_layers, layered, marked
from ddpmkit.recipe.problems import Problem, RecipeError
from ddpmkit.recipe.recipe import Recipe
from ddpmkit.recipe.recipe_file import Layer, as_toml_data, read_file
from ddpmkit.recipe.resolution import resolve

__all__ = ["chosen_registry", "default_name", "read_recipe", "source_layers"]


def read_recipe(
    source: Path | str | Mapping[str, Any] | Layer,
    *,
    overrides: Sequence[str] = (),
    registry: Registry | None = None,
    plugins: Sequence[Path | str] = (),
    name: str | None = None,
    trust: bool = False,
) -> Recipe:
    """Read a TOML file, or take plain data or what `read_file` gave, and check all of it. Imports no torch.

    `overrides` are `key=value` strings as for `--set`. `registry` None: whatever is installed, and the files `plugins`,
    as for `--plugin`. `name` is the run's name where the recipe gives none; None: the file's. Code that the lock of
    somebody else's run names is built only if you `trust` it. Raises RecipeError with every problem at its place.
    """
    layers = source_layers(source, trust=trust)
    return resolve(layered(layers, overrides), chosen_registry(registry, plugins), name or default_name(source))


def chosen_registry(registry: Registry | None, plugins: Sequence[Path | str]) -> Registry:
    """The one that is given, or else of whatever is installed and the files `plugins`."""
    return registry if registry is not None else discover([Path(file) for file in plugins]).registry()


def source_layers(source: Path | str | Mapping[str, Any] | Layer, *, trust: bool = False) -> list[Layer]:
    """What is written in a file and in those that it extends, or given as plain data; the last layer lies on top.

    A lock among them that is not the user's own is foreign, unless it is to be trusted.
    """
    if isinstance(source, Layer):
        layers = file_layers(marked(source), Path())
    elif isinstance(source, Mapping):
        layers = file_layers(marked(_data_layer(source)), Path())
    else:
        path = Path(source)
        layers = file_layers(marked(read_file(path)), path.parent, (path.resolve(),))
    return [replace(layer, foreign=layer.foreign and not trust) for layer in layers]


def default_name(source: Path | str | Mapping[str, Any] | Layer) -> str:
    """Of a run whose recipe gives it none."""
    if isinstance(source, Mapping | Layer):
        return "recipe"
    # A file's name may be any bytes, a run's is text.
    return os.fsencode(Path(source).stem).decode(errors="replace")


def _data_layer(data: Mapping[str, Any]) -> Layer:
    source = "the given recipe"
    try:
        return Layer(source, as_toml_data(data))
    except ValueError as error:
        raise RecipeError([Problem(str(error), source)]) from error
