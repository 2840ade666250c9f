"""The lock: a resolved recipe together with what it ran with.

It reads like any recipe, and the same run can be started from it. It does not know where it is kept.
"""

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ddpmkit.errors import InputError
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.files import read_file
from ddpmkit.recipe.reading import read_recipe
from ddpmkit.recipe.recipe import Recipe
from ddpmkit.recipe.schema import LOCK_TABLE
from ddpmkit.recipe.writing import toml_text

__all__ = ["Lock", "lock_text", "read_lock"]

_COMMENT = (
    "# Written by ddpmkit: the recipe with every default filled in, and what it ran with. It can be run again.\n\n"
)


@dataclass(frozen=True)
class Lock:
    """What a lock file holds."""

    recipe: Recipe
    versions: Mapping[str, str]
    """Of `ddpmkit`, `python` and `torch`."""
    distributions: Mapping[str, str]
    """Version of every distribution that supplied a component, by name."""
    dataset_fingerprint: str


class _LockTable(BaseModel):
    model_config = ConfigDict(strict=True)

    dataset_fingerprint: str
    versions: dict[str, str]
    distributions: dict[str, str]


def lock_text(recipe: Recipe, dataset_fingerprint: str) -> str:
    """The lock of a recipe as it would run now, as TOML."""
    versions = {name: importlib.metadata.version(name) for name in ("ddpmkit", "torch")}
    table = _LockTable(
        dataset_fingerprint=dataset_fingerprint,
        versions={"python": platform.python_version(), **versions},
        distributions={part.component.plugin.distribution: part.component.plugin.version for part in recipe.parts},
    )
    return _COMMENT + toml_text(recipe.as_data() | {LOCK_TABLE: table.model_dump()})


def read_lock(file: Path, registry: Registry | None = None) -> Lock:
    """The inverse of `lock_text`.

    Raises RecipeError when the recipe cannot be used here (a plugin is gone), InputError when the file is no lock.
    """
    values = read_file(file).values
    if "extends" in values:
        raise InputError(f"{file} is no lock file: it leads to another one (extends), and a lock stands alone.")
    recipe = read_recipe(file, registry=registry)
    try:
        table = _LockTable.model_validate(values.get(LOCK_TABLE))
    except ValidationError as error:
        raise InputError(f"{file} is no lock file: it has no complete [{LOCK_TABLE}] table.") from error
    return Lock(recipe, table.versions, table.distributions, table.dataset_fingerprint)
