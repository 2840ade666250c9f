"""Keys that someone wrote and that change nothing in this recipe, such as `label_dropout` without labels.

They are reported, not refused: a layer may switch off what a base recipe sets. A value that nobody wrote is never
reported, and neither is one in the lock of a run: a lock has every key, and the run has said it before.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ddpmkit.recipe.layers import Layered
from ddpmkit.recipe.problems import one_line
from ddpmkit.recipe.requirements import unused_sources
from ddpmkit.recipe.toml_positions import Key

__all__ = ["idle_core_keys", "idle_notes", "is_written"]


def is_written(tree: Layered, key: Key) -> bool:
    """Whether a person wrote this key: in a recipe, or with `--set`."""
    origin = tree.origins.get(key)
    return origin is not None and not origin.of_lock


def idle_notes(tree: Layered, idle: Iterable[tuple[Key, str]]) -> Iterator[str]:
    """A sentence for each key of these that is written; `idle` says why it has no effect."""
    for key, why in idle:
        if is_written(tree, key):
            table, name = (f"[[{key[0]}]]", key[2:]) if isinstance(key[1], int) else (f"[{key[0]}]", key[1:])
            yield one_line(f"{tree.origin(key)}: `{'.'.join(map(str, name))}` in {table} has no effect: {why}")


def idle_core_keys(found: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    """Keys of the core without effect in the checked sections `found`.

    A value that switches something off is never among them: it is right if there is nothing to switch on.
    """
    requires, data, train, sampler = (
        found["requires"],
        found["data"].settings,
        found["train"],
        found["sampler"].settings,
    )
    for name in unused_sources(requires.plugins, requires.sources):
        yield ("requires", "sources", name), "`plugins` does not require it"
    if data.crop_margin != 1 and data.decoded_shape == data.image_shape:
        side = max(data.image_shape[1:])
        enough = math.ceil(100 * (side + 1) / side) / 100
        yield ("data", "crop_margin"), f"it adds less than one pixel to {side}; {enough} or more adds one"
    if train.label_dropout and not data.labels:
        yield ("train", "label_dropout"), "the network gets no labels (data.labels = false)"
    if train.on_nonfinite == "stop":
        yield ("train", "nonfinite_limit"), 'on_nonfinite = "stop" stops at the first batch'
    if train.ema_snapshot_every and not train.ema_sigma_rels:
        yield ("train", "ema_snapshot_every"), "only averages of ema_sigma_rels have snapshots, and there are none"
    if train.keep_every and not train.keep_last:
        yield ("train", "keep_every"), "keep_last = 0 keeps every checkpoint"
    elif train.keep_every and not train.checkpoint_every and not train.keep_best:
        yield ("train", "keep_every"), "checkpoint_every = 0 makes one checkpoint, at the end"
    if sampler.weights == "ema" and not train.ema_decay:
        yield ("sampler", "weights"), "ema_decay = 0 keeps no average, so the weights of the last step generate images"
