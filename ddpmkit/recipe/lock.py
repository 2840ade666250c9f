"""The lock: a resolved recipe together with what it ran with.

It reads like any recipe, and the same run can be started from it. It does not know where it is kept.
"""

import importlib.metadata
import logging
import platform
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ddpmkit.contracts import Dataset
from ddpmkit.errors import InputError
from ddpmkit.plugin.registry import Registry
from ddpmkit.plugin.runs_code import code_values
from ddpmkit.recipe.problems import RecipeError
from ddpmkit.recipe.provenance import MadeWith, made_with
from ddpmkit.recipe.read import default_name, read_recipe
from ddpmkit.recipe.recipe import Recipe
from ddpmkit.recipe.recipe_file import read_file
from ddpmkit.recipe.schema import LOCK_TABLE
from ddpmkit.recipe.signature import SIGNATURE, key_file, signature
from ddpmkit.recipe.toml_writer import toml_text

__all__ = ["Lock", "is_lock", "lock_text", "made_here", "read_lock", "read_lock_values"]

_log = logging.getLogger(__name__)

_COMMENT = (
    "# Written by ddpmkit: the recipe with every default filled in, and what it ran with. It can be run again.\n\n"
)


class _Section(BaseModel):
    """A section, as far as it is shown; what else stands there is its component's."""

    model_config = ConfigDict(extra="allow", strict=True)

    use: str = ""


class _Data(_Section):
    image_size: int | list[int] = 0
    classes: str | list[str] = ""


class _Diffusion(_Section):
    timesteps: int = 0


class _Sampler(_Section):
    weights: str = ""


class _Train(_Section):
    steps: int = 0
    batch_size: int = 0
    seed: int = 0


class _Shown(_Section):
    """The shape of what is shown of a lock: each section is a table, and what is formatted has its type."""

    name: str = ""
    data: _Data = _Data()
    diffusion: _Diffusion = _Diffusion()
    schedule: _Section = _Section()
    backbone: _Section = _Section()
    loss: _Section = _Section()
    sampler: _Sampler = _Sampler()
    train: _Train = _Train()
    metric: list[_Section] = []
    tracker: list[_Section] = []


@dataclass(frozen=True)
class Lock:
    """What a lock file holds."""

    recipe: Recipe
    made_with: MadeWith


def made_here(
    recipe: Recipe,
    dataset_fingerprint: str,
    alpha_bar_fingerprint: str | None = None,
    held_out: Dataset | None = None,
    arithmetic: Mapping[str, str] | None = None,
) -> MadeWith:
    """What a run of the recipe is made with if it is made now."""
    versions = {name: importlib.metadata.version(name) for name in ("ddpmkit", "torch")}
    return MadeWith(
        dataset_fingerprint=dataset_fingerprint,
        alpha_bar_fingerprint=alpha_bar_fingerprint,
        validation_images=None if held_out is None else len(held_out),
        validation_fingerprint=None if held_out is None else held_out.fingerprint,
        versions={"python": platform.python_version(), **versions},
        arithmetic=dict(arithmetic or {}),
        distributions={part.component.plugin.distribution: part.component.plugin.version for part in recipe.parts},
    )


def lock_text(recipe: Recipe, made_with: MadeWith) -> str:
    """The lock of a recipe, as TOML. It is signed as the user's own, unless it names code that is not."""
    lock = made_with.model_dump(exclude_none=True)
    text = toml_text(recipe.as_data() | {LOCK_TABLE: lock})
    if any(part.foreign_code for part in recipe.parts):
        return _COMMENT + text
    signed = signature(tomllib.loads(text))
    if signed is not None:
        return _COMMENT + toml_text(recipe.as_data() | {LOCK_TABLE: lock | {SIGNATURE: signed}})
    if any(True for part in recipe.parts for _ in code_values(part.config)):
        _log.warning(
            "%s cannot be written, so that this run cannot be told from one of somebody else: `evaluate` and others "
            "will ask for --trust, since the recipe names code",
            key_file(),
        )
    return _COMMENT + text


def is_lock(file: Path) -> bool:
    """Whether the file is a lock that ddpmkit wrote: TOML with a complete `[lock]` table."""
    try:
        return made_with(read_file(file).values) is not None
    except RecipeError:
        return False


def read_lock_values(file: Path) -> dict[str, Any]:
    """What a lock says, as plain data, for whoever shows it: no plugin is needed, and no key is checked by its plugin.

    Raises InputError when the file is a link or cannot be read, or when what it says is not of the shape of a lock.
    """
    if file.is_symlink():
        raise InputError(f"{file} is a link, and may lead out of the run.", remedies=["put the file itself there"])
    values = read_file(file).values
    try:
        _Shown.model_validate(values)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(f"{file} is not the lock of a run: {key} is something else there.") from error
    return values


def read_lock(
    file: Path,
    registry: Registry | None = None,
    *,
    content: bytes | None = None,
    overrides: Sequence[str] = (),
    trust: bool = False,
) -> Lock:
    """The inverse of `lock_text`, with other values where `overrides` say so, as for `--set`.

    `content` is what the file held, for one that may be gone by now; `trust` is as in `read_recipe`. Raises RecipeError
    when the recipe cannot be used here (a plugin is gone or was changed), InputError when the file is no lock.
    """
    layer = read_file(file, content=content)
    if "extends" in layer.values:
        raise InputError(f"{file} is no lock file: it leads to another one (extends), and a lock stands alone.")
    table = made_with(layer.values)
    recipe = read_recipe(layer, overrides=overrides, registry=registry, name=default_name(file), trust=trust)
    if table is None:
        raise InputError(f"{file} is no lock file: it has no complete [{LOCK_TABLE}] table.")
    return Lock(recipe, table)
