"""`recipe.lock.toml`: the resolved recipe of a run, with the versions and data that the run was made with.

A lock is a valid recipe, from which the same run can be started again.
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
from ddpmkit.recipe.provenance import Provenance, provenance_of
from ddpmkit.recipe.read import default_name, read_recipe
from ddpmkit.recipe.recipe import Recipe
from ddpmkit.recipe.schema.section_list import LOCK_TABLE
from ddpmkit.recipe.toml.writer import toml_text
from ddpmkit.recipe.toml_file import read_file
from ddpmkit.recipe.trust import SIGNATURE, key_file, signature

__all__ = ["Lock", "current_provenance", "is_lock", "lock_text", "read_lock", "read_lock_values"]

_log = logging.getLogger(__name__)

_COMMENT = (
    "# Written by ddpmkit: the recipe with all defaults, and the versions and data that it ran with. "
    "It can be run again.\n\n"
)


class _Section(BaseModel):
    """The keys of a section that are displayed. Other keys may have any value."""

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


class _DisplayedLock(_Section):
    """The types that a lock needs to be displayed: sections are tables, and displayed values have the right type."""

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
    """The content of a lock file."""

    recipe: Recipe
    provenance: Provenance


def current_provenance(
    recipe: Recipe,
    dataset_fingerprint: str,
    alpha_bar_fingerprint: str | None = None,
    held_out: Dataset | None = None,
    arithmetic: Mapping[str, str] | None = None,
    randomness: int = 1,
) -> Provenance:
    """Return the provenance of a run of the recipe that starts now."""
    versions = {name: importlib.metadata.version(name) for name in ("ddpmkit", "torch")}
    return Provenance(
        dataset_fingerprint=dataset_fingerprint,
        alpha_bar_fingerprint=alpha_bar_fingerprint,
        validation_images=None if held_out is None else len(held_out),
        validation_fingerprint=None if held_out is None else held_out.fingerprint,
        versions={"python": platform.python_version(), **versions},
        arithmetic=dict(arithmetic or {}),
        randomness=randomness,
        distributions={part.component.plugin.distribution: part.component.plugin.version for part in recipe.parts},
    )


def lock_text(recipe: Recipe, provenance: Provenance) -> str:
    """Return the lock of a recipe, as TOML, signed with the user's key unless it names code that is not trusted."""
    lock = provenance.model_dump(exclude_none=True)
    text = toml_text(recipe.as_data() | {LOCK_TABLE: lock})
    if any(part.untrusted_code for part in recipe.parts):
        return _COMMENT + text
    signed = signature(tomllib.loads(text))
    if signed is not None:
        return _COMMENT + toml_text(recipe.as_data() | {LOCK_TABLE: lock | {SIGNATURE: signed}})
    if any(True for part in recipe.parts for _ in code_values(part.config)):
        _log.warning(
            "%s cannot be written, so this run cannot be recognized as your own: because the recipe names code, "
            "`evaluate` and other commands will require --trust",
            key_file(),
        )
    return _COMMENT + text


def is_lock(file: Path) -> bool:
    """Return whether the file is a lock that ddpmkit wrote: TOML with a complete `[lock]` table."""
    try:
        return provenance_of(read_file(file).values) is not None
    except RecipeError:
        return False


def read_lock_values(file: Path) -> dict[str, Any]:
    """Read a lock as plain data, to display it: no plugin is needed, and keys of components are not checked.

    Raises InputError if the file is a link, cannot be read, or is not a lock.
    """
    if file.is_symlink():
        message = f"{file} is a link, which may point outside the run folder."
        raise InputError(message, remedies=["replace it by the file itself"])
    values = read_file(file).values
    try:
        _DisplayedLock.model_validate(values)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(f"{file} is not the lock of a run: {key} has another type.") from error
    return values


def read_lock(
    file: Path,
    registry: Registry | None = None,
    *,
    content: bytes | None = None,
    overrides: Sequence[str] = (),
    trust: bool = False,
) -> Lock:
    """Read a lock; the inverse of `lock_text`.

    Args:
        file: The lock file.
        registry: As in `read_recipe`.
        content: The content of the file, if it is already known; the file may be deleted meanwhile.
        overrides: As in `read_recipe`.
        trust: As in `read_recipe`.

    Raises RecipeError if the recipe cannot be used here, for example because a plugin is missing or was changed, and
    InputError if the file is not a lock.
    """
    layer = read_file(file, content=content)
    if "extends" in layer.values:
        raise InputError(f"{file} is not a lock file: a lock file cannot use `extends`.")
    provenance = provenance_of(layer.values)
    recipe = read_recipe(layer, overrides=overrides, registry=registry, name=default_name(file), trust=trust)
    if provenance is None:
        raise InputError(f"{file} is not a lock file: it has no complete [{LOCK_TABLE}] table.")
    return Lock(recipe, provenance)
