"""`read_recipe`: a file or plain data in, a checked recipe or all its errors out.

It does not know what is done with a recipe.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.files import Layer, as_toml_data, read_file
from ddpmkit.recipe.layers import file_layers, layered
from ddpmkit.recipe.problems import Problem, RecipeError
from ddpmkit.recipe.recipe import Recipe
from ddpmkit.recipe.resolution import resolve

__all__ = ["read_recipe"]


def read_recipe(
    source: Path | str | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    registry: Registry | None = None,
    name: str | None = None,
) -> Recipe:
    """Read a TOML file, or take plain data, and check all of it. Imports no torch.

    `overrides` are `key=value` strings as for `--set`. `registry` None: whatever is installed. `name` is the run's name
    where the recipe gives none; None: the file's. Raises RecipeError with every problem at its place.
    """
    registry = registry if registry is not None else discover().registry()
    if isinstance(source, Mapping):
        top, folder, seen = _data_layer(source), Path(), tuple[Path, ...]()
    else:
        path = Path(source)
        top, folder, seen = read_file(path), path.parent, (path.resolve(),)
    # A file's name may be any bytes, a run's is text.
    default_name = name or (os.fsencode(Path(top.source).stem).decode(errors="replace") if seen else "recipe")
    return resolve(layered(file_layers(top, folder, seen), overrides), registry, default_name)


def _data_layer(data: Mapping[str, Any]) -> Layer:
    source = "the given recipe"
    try:
        return Layer(source, as_toml_data(data))
    except ValueError as error:
        raise RecipeError([Problem(str(error), source)]) from error
