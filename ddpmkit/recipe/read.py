"""`read_recipe`: read and check a recipe, together with the recipes that it extends."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.layers import merge_layers
from ddpmkit.recipe.problems import Problem, RecipeError
from ddpmkit.recipe.recipe import Recipe
from ddpmkit.recipe.resolve import resolve
from ddpmkit.recipe.schema.section_list import LOCK_TABLE
from ddpmkit.recipe.toml.writer import toml_value
from ddpmkit.recipe.toml_file import Layer, as_toml_data, read_file
from ddpmkit.recipe.trust import is_signed_by_user

__all__ = ["chosen_registry", "default_name", "read_recipe", "source_layers"]

_MAX_CHAIN = 50


def read_recipe(
    source: Path | str | Mapping[str, Any] | Layer,
    *,
    overrides: Sequence[str] = (),
    registry: Registry | None = None,
    plugins: Sequence[Path | str] = (),
    name: str | None = None,
    trust: bool = False,
) -> Recipe:
    """Read and check a recipe. Imports no torch.

    Args:
        source: A TOML file, plain data, or the result of `read_file`.
        overrides: `key=value` strings, as for `--set`.
        registry: The components that can be used; by default those of all installed plugins and of `plugins`.
        plugins: Plugin files, as for `--plugin`.
        name: Name of the run if the recipe does not set one; by default the name of the file.
        trust: Allow the lock of another user's run to run the code that it names.

    Raises RecipeError with every problem, each at its place.
    """
    layers = source_layers(source, trust=trust)
    return resolve(merge_layers(layers, overrides), chosen_registry(registry, plugins), name or default_name(source))


def chosen_registry(registry: Registry | None, plugins: Sequence[Path | str]) -> Registry:
    """Return `registry`, or else one of all installed plugins and the plugin files `plugins`."""
    return registry if registry is not None else discover([Path(file) for file in plugins]).registry()


def source_layers(source: Path | str | Mapping[str, Any] | Layer, *, trust: bool = False) -> list[Layer]:
    """Return the layers of a recipe: the recipes that it extends, the base first, then the recipe itself.

    A lock that was not written by this user is marked as untrusted, unless `trust` is set.
    """
    if isinstance(source, Layer):
        layers = _with_bases(_mark_lock(source), Path())
    elif isinstance(source, Mapping):
        layers = _with_bases(_mark_lock(_data_layer(source)), Path())
    else:
        path = Path(source)
        layers = _with_bases(_mark_lock(read_file(path)), path.parent, (path.resolve(),))
    return [replace(layer, untrusted=layer.untrusted and not trust) for layer in layers]


def default_name(source: Path | str | Mapping[str, Any] | Layer) -> str:
    """Return the name of a run whose recipe does not set one."""
    if isinstance(source, Mapping | Layer):
        return "recipe"
    # The name of a file may be any bytes, but the name of a run is text.
    return os.fsencode(Path(source).stem).decode(errors="replace")


def _data_layer(data: Mapping[str, Any]) -> Layer:
    source = "the given recipe"
    try:
        return Layer(source, as_toml_data(data))
    except ValueError as error:
        raise RecipeError([Problem(str(error), source)]) from error


def _mark_lock(layer: Layer) -> Layer:
    """Return the layer with `is_from_lock` set if it is a lock, and `untrusted` if this user did not write the lock."""
    is_from_lock = LOCK_TABLE in layer.values
    return replace(layer, is_from_lock=is_from_lock, untrusted=is_from_lock and not is_signed_by_user(layer.values))


def _with_bases(top: Layer, folder: Path, seen: tuple[Path, ...] = ()) -> list[Layer]:
    """Return the recipes that `top` extends (relative to `folder`), the base first, then `top` without `extends`.

    The `name` of a base is not inherited. Raises RecipeError if a base cannot be read or the recipes form a circle.
    """
    values = dict(top.values)
    extends = values.pop("extends", None)
    if extends is None:
        return [top]
    key = ("extends",)
    if not isinstance(extends, str) or not extends:
        message = f"`extends` must be the name of a recipe file, but is {toml_value(extends)}"
        raise RecipeError([top.problem(message, key)])
    path = folder / extends
    base = _mark_lock(read_file(path, requested_by=top.problem("`extends` names", key)))
    chain = (*seen, path.resolve())
    if chain[-1] in seen:
        circle = " -> ".join(os.path.relpath(file) for file in chain[chain.index(chain[-1]) :])
        raise RecipeError([top.problem("`extends` forms a circle", key, circle)])
    if len(chain) > _MAX_CHAIN:
        raise RecipeError([top.problem(f"`extends` forms a chain of more than {_MAX_CHAIN} recipes", key)])
    unnamed = {name: value for name, value in base.values.items() if name != "name"}
    return [*_with_bases(replace(base, values=unnamed), path.parent, chain), replace(top, values=values)]
