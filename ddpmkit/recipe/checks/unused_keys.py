"""Notes about keys that are written but have no effect, such as `label_dropout` without labels.

They are notes, not errors: a recipe may switch off what its base recipe configures. Defaults are never noted, and
neither are the values in the lock of a run, which contains every key.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ddpmkit.recipe.checks.requirements import unused_sources
from ddpmkit.recipe.layers import MergedRecipe
from ddpmkit.recipe.problems import one_line
from ddpmkit.recipe.recipe import Part, evaluation_keys
from ddpmkit.recipe.schema.sections import MetricSection
from ddpmkit.recipe.schema.train_section import TrainSection
from ddpmkit.recipe.toml.positions import Key

__all__ = ["repeated_metrics", "too_long_warmup", "unused_core_keys", "unused_key_notes"]


def unused_key_notes(recipe: MergedRecipe, unused: Iterable[tuple[Key, str]]) -> Iterator[str]:
    """Yield a sentence for each key in `unused` that the user wrote, with the reason why the key has no effect."""
    for key, why in unused:
        if recipe.set_by_user(key):
            table, name = (f"[[{key[0]}]]", key[2:]) if isinstance(key[1], int) else (f"[{key[0]}]", key[1:])
            yield one_line(f"{recipe.origin(key)}: `{'.'.join(map(str, name))}` in {table} has no effect: {why}")


def unused_core_keys(sections: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    """Yield the keys of the checked `sections` that have no effect, each with the reason.

    Keys of components are not included. A value that switches something off is never included, even if there is
    nothing to switch off.
    """
    requires, train = sections["requires"], sections["train"]
    data, sampler = sections["data"].settings, sections["sampler"].settings
    for name in unused_sources(requires.plugins, requires.sources):
        yield ("requires", "sources", name), "`plugins` does not require it"
    if data.crop_margin != 1 and data.decoded_shape == data.image_shape:
        side = max(data.image_shape[1:])
        enough = math.ceil(100 * (side + 1) / side) / 100
        yield ("data", "crop_margin"), f"it adds less than one pixel to {side}; {enough} or more adds one"
    if train.label_dropout and not data.labels:
        yield ("train", "label_dropout"), "the network receives no labels (data.labels = false)"
    if train.tf32 and train.device.partition(":")[0] not in ("auto", "cuda"):
        yield ("train", "tf32"), f'device = "{train.device}" has no TF32'
    if train.on_nonfinite == "stop":
        yield ("train", "nonfinite_limit"), 'on_nonfinite = "stop" stops at the first batch'
    if train.ema_snapshot_every and not train.ema_sigma_rels:
        yield (
            ("train", "ema_snapshot_every"),
            "only averages of ema_sigma_rels have snapshots, and it is empty",
        )
    if train.keep_every and not train.keep_last:
        yield ("train", "keep_every"), "keep_last = 0 keeps every checkpoint"
    elif train.keep_every and not train.checkpoint_every and not train.keep_best:
        yield ("train", "keep_every"), "checkpoint_every = 0 writes one checkpoint, at the end"
    if sampler.weights == "ema" and not train.ema_decay:
        yield ("sampler", "weights"), "ema_decay = 0 stores no average, so the weights of the last step generate images"


def repeated_metrics(metrics: Sequence[Part[MetricSection]]) -> Iterator[str]:
    """Yield a note for each metric that is the same evaluation as one before it."""
    seen: list[dict[str, Any]] = []
    for number, part in enumerate(metrics, start=1):
        keys = {"use": part.component.use, **evaluation_keys(part)}
        if keys in seen:
            first = seen.index(keys) + 1
            yield f"[[metric]] number {number} is the same evaluation as number {first} and runs only once at each step"
        seen.append(keys)


def too_long_warmup(recipe: MergedRecipe, train: TrainSection) -> Iterator[str]:
    """Yield a note if the user wrote a warm-up that is longer than the training."""
    key = ("train", "warmup_steps")
    if train.warmup_steps > train.steps and recipe.set_by_user(key):
        yield one_line(
            f"{recipe.origin(key)}: `warmup_steps` in [train] is {train.warmup_steps}, but steps is {train.steps}: "
            f"training ends before the learning rate reaches {train.learning_rate}"
        )
