"""The lock: a resolved recipe together with what it ran with.

It reads like any recipe, and the same run can be started from it. It does not know where it is kept.
"""

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddpmkit.errors import InputError
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.files import read_file
from ddpmkit.recipe.made_with import MadeWith, made_with
from ddpmkit.recipe.reading import default_name, read_recipe
from ddpmkit.recipe.recipe import Recipe
from ddpmkit.recipe.schema import LOCK_TABLE
from ddpmkit.recipe.writing import toml_text

__all__ = ["Lock", "lock_text", "made_here", "read_lock"]

_COMMENT = (
    "# Written by ddpmkit: the recipe with every default filled in, and what it ran with. It can be run again.\n\n"
)


@dataclass(frozen=True)
class Lock:
    """What a lock file holds."""

    recipe: Recipe
    made_with: MadeWith


def made_here(recipe: Recipe, dataset_fingerprint: str, alpha_bar_fingerprint: str | None = None) -> MadeWith:
    """What a run of the recipe is made with if it is made now."""
    versions = {name: importlib.metadata.version(name) for name in ("ddpmkit", "torch")}
    return MadeWith(
        dataset_fingerprint=dataset_fingerprint,
        alpha_bar_fingerprint=alpha_bar_fingerprint,
        versions={"python": platform.python_version(), **versions},
        distributions={part.component.plugin.distribution: part.component.plugin.version for part in recipe.parts},
    )


def lock_text(recipe: Recipe, made_with: MadeWith) -> str:
    """The lock of a recipe, as TOML."""
    return _COMMENT + toml_text(recipe.as_data() | {LOCK_TABLE: made_with.model_dump(exclude_none=True)})


def read_lock(
    file: Path, registry: Registry | None = None, *, content: bytes | None = None, overrides: Sequence[str] = ()
) -> Lock:
    """The inverse of `lock_text`, with other values where `overrides` say so, as for `--set`.

    `content` is what the file held, for one that may be gone by now. Raises RecipeError when the recipe cannot be used
    here (a plugin is gone or was changed), InputError when the file is no lock.
    """
    layer = read_file(file, content=content)
    if "extends" in layer.values:
        raise InputError(f"{file} is no lock file: it leads to another one (extends), and a lock stands alone.")
    table = made_with(layer.values)
    recipe = read_recipe(layer, overrides=overrides, registry=registry, name=default_name(file))
    if table is None:
        raise InputError(f"{file} is no lock file: it has no complete [{LOCK_TABLE}] table.")
    return Lock(recipe, table)
