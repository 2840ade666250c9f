"""`[sweep]`: one recipe that stands for many, and which of its keys take which values in turn.

It does not know how the runs are made, nor in what order.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.layers import Layered, layered
from ddpmkit.recipe.overrides import Override
from ddpmkit.recipe.problems import MOST, Problem, RecipeError
from ddpmkit.recipe.read import default_name, source_layers
from ddpmkit.recipe.recipe import Recipe
from ddpmkit.recipe.resolution import resolve
from ddpmkit.recipe.schema import SWEEP_TABLE, SweepSection
from ddpmkit.recipe.toml_positions import Key, Position
from ddpmkit.recipe.toml_writer import toml_key, toml_value
from ddpmkit.recipe.validation import Table, validate

__all__ = ["SweepRun", "read_sweep"]

_MOST_RUNS = 1000


@dataclass(frozen=True)
class SweepRun:
    """One of the runs."""

    name: str
    """Of its folder within the sweep's."""
    changes: Mapping[str, Any]
    """The keys that vary, dotted, and their values in this run."""
    recipe: Recipe


def read_sweep(
    source: Path | str | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    registry: Registry | None = None,
    name: str | None = None,
    trust: bool = False,
) -> tuple[str, tuple[SweepRun, ...]]:
    """The sweep's name and its runs, each checked as `read_recipe` checks it; a recipe without [sweep] is one run.
    `trust` is as in `read_recipe`.

    Raises RecipeError for a sweep that is none, and with the problems of all its runs.
    """
    registry = registry if registry is not None else discover().registry()
    layers = source_layers(source, trust=trust)
    tree = layered(layers, [override for override in overrides if override.startswith(f"{SWEEP_TABLE}.")])
    rest = [override for override in overrides if not override.startswith(f"{SWEEP_TABLE}.")]
    many = SWEEP_TABLE in tree.values
    varied = _varied(tree) if many else [[]]
    plain = [replace(layer, values={k: v for k, v in layer.values.items() if k != SWEEP_TABLE}) for layer in layers]
    whole = str(tree.values.get("name", name or default_name(source)))
    runs, problems = [], dict[Problem, None]()
    for number, overridden in enumerate(varied, start=1):
        changes = {_dotted(override.key): override.value for override in overridden}
        described = list(map(_slug, changes.values())) or ["unchanged"]
        called = "-".join([f"{number:0{len(str(len(varied)))}}", *described])[:100]
        try:
            recipe = resolve(layered(plain, [*rest, *overridden]), registry, whole)
        except RecipeError as error:
            problems |= dict.fromkeys(error.problems)
            if len(problems) > MOST:
                break
            continue
        runs.append(SweepRun(called, changes, replace(recipe, name=f"{whole}-{called}"[:150]) if many else recipe))
    if problems:
        raise RecipeError(problems)
    return whole, tuple(runs)


def _varied(tree: Layered) -> list[list[Override]]:
    """The changes of each run. Raises RecipeError where the section does not say what they are."""
    values = tree.values[SWEEP_TABLE]
    if not isinstance(values, Mapping):
        whole = Table(tree, (), {}, "the recipe")
        raise RecipeError([whole.problem("`sweep` must be a single table", (SWEEP_TABLE,), "write [sweep.over]")])
    table = Table(tree, (SWEEP_TABLE,), values, f"[{SWEEP_TABLE}]")
    section = validate(SweepSection, table)
    if section is None:
        raise RecipeError(tree.problems)
    lists = dict(_leaves(section.over))
    for key, choices in lists.items():
        if not isinstance(choices, list) or not choices:
            message = f"`{_dotted(key)}` in [sweep.over] must be a list of the values to try"
            tree.problems.append(table.problem(message, ("over", *key)))
    if not tree.problems and section.mode == "zip" and len({len(choices) for choices in lists.values()}) > 1:
        lengths = ", ".join(f"{_dotted(key)} has {len(choices)}" for key, choices in lists.items())
        tree.problems.append(table.problem(f"a zip needs lists of one length: {lengths}", ("over",)))
    if tree.problems:
        raise RecipeError(tree.problems[:MOST])
    overrides = [list(_overrides(tree, key, choices)) for key, choices in lists.items()]
    chosen = list(itertools.islice(_combined(section.mode, overrides), _MOST_RUNS + 1))
    if len(chosen) > _MOST_RUNS:
        raise RecipeError([table.problem(f"this is a sweep of more than {_MOST_RUNS:,} runs", ("over",))])
    return chosen


def _overrides(tree: Layered, key: Key, choices: Sequence[Any]) -> Iterator[Override]:
    """Each value of `key`, with its place in the list."""
    written = (SWEEP_TABLE, "over", *key)
    for index, value in enumerate(choices):
        name, entry = tree.origin(written), tree.origin((*written, index))
        if name.position and entry.position:
            entry = replace(entry, position=Position(name.position.key, entry.position.value))
        yield Override(tuple(map(str, key)), value, entry.source, entry)


def _combined(mode: str, lists: Sequence[list[Override]]) -> Iterator[list[Override]]:
    if mode == "ablation":
        yield []
        yield from ([override] for choices in lists for override in choices)
        return
    yield from map(list, (itertools.product if mode == "grid" else zip)(*lists))


def _leaves(table: Mapping[str, Any], key: Key = ()) -> Iterator[tuple[Key, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*key, name))
        else:
            yield (*key, name), value


def _dotted(key: Key) -> str:
    return ".".join(toml_key(str(part)) for part in key)


def _slug(value: Any) -> str:
    """A value as part of a folder's name."""
    return re.sub(r"[^\w.+-]+", "_", toml_value(value)).strip("_")
