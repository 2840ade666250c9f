"""Applies `--set` to the recipe of a finished run."""

from collections.abc import Mapping, Sequence
from typing import Literal

from ddpmkit.checkpoint import Checkpoint
from ddpmkit.errors import InputError
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import Recipe, differences, read_lock, reject_unused_overrides

__all__ = ["OpenedFor", "apply_overrides"]

OpenedFor = Literal["sample", "evaluate", "visualize"]
"""The command that a run is opened for."""

_USED: Mapping[OpenedFor, Sequence[str]] = {
    "sample": ("sampler", "train.device"),
    "evaluate": ("sampler", "metric", "data", "train.device"),
    "visualize": ("sampler", "data", "train.device"),
}
"""The sections and keys that each purpose uses."""
_ACTIVITY: Mapping[OpenedFor, str] = {"sample": "sampling", "evaluate": "evaluation", "visualize": "visualization"}
_NOT_USED: Mapping[str, str] = {
    "sampler.count": "-n sets the number of images; in Python, the first argument of `sample`"
}


def apply_overrides(
    recipe: Recipe,
    checkpoint: Checkpoint,
    overrides: Sequence[str],
    *,
    registry: Registry | None,
    trust: bool,
    purpose: OpenedFor | None,
) -> Recipe:
    """Return the `recipe` of a checkpoint, changed by `overrides`.

    Raises InputError for keys that the weights depend on, for keys that `purpose` (None: any purpose) does not use, and
    for keys without effect.
    """
    if not overrides:
        return recipe
    content = checkpoint.lock_content
    changed = read_lock(checkpoint.lock, registry, content=content, overrides=overrides, trust=trust).recipe
    changes = differences(recipe.as_data(), changed.as_data())
    if refused := [change for change in changes if change.affects_model]:
        raise InputError(
            "the weights were trained with other values, which --set cannot change:\n"
            + "\n".join(f"    {change}" for change in refused),
            remedies=["run `ddpmkit run RECIPE --set ... --out DIR` to train with these values"],
        )
    used = _USED[purpose] if purpose else list(dict.fromkeys(key for keys in _USED.values() for key in keys))
    reject_unused_overrides(overrides, used, _ACTIVITY[purpose] if purpose else "an opened run", unused=_NOT_USED)
    if changed.unused_key_notes:
        raise InputError("\n".join(changed.unused_key_notes))
    return changed
