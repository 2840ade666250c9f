"""`[sweep]`: one recipe that defines several runs, each with other values of some keys."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registry import Registry
from ddpmkit.plural import counted
from ddpmkit.recipe.checks.table import Table
from ddpmkit.recipe.checks.validation import validate
from ddpmkit.recipe.layers import MergedRecipe, Override, merge_layers
from ddpmkit.recipe.problems import MAX_PROBLEMS, Problem, RecipeError
from ddpmkit.recipe.read import default_name, source_layers
from ddpmkit.recipe.recipe import Recipe
from ddpmkit.recipe.resolve import resolve
from ddpmkit.recipe.schema.section_list import SWEEP_TABLE, SweepSection
from ddpmkit.recipe.toml.positions import Key, Position
from ddpmkit.recipe.toml.writer import toml_key, toml_value

__all__ = ["SweepRun", "read_sweep"]

_MAX_RUNS = 1000


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep."""

    name: str
    """Name of its folder in the folder of the sweep."""
    changes: Mapping[str, Any]
    """The varied keys, dotted, with their values in this run."""
    recipe: Recipe


def read_sweep(
    source: Path | str | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    registry: Registry | None = None,
    name: str | None = None,
    trust: bool = False,
) -> tuple[str, tuple[SweepRun, ...]]:
    """Read a sweep: its name and its runs. A recipe without `[sweep]` is a sweep of one run.

    The arguments are those of `read_recipe`. Raises RecipeError if `[sweep]` is invalid; otherwise with the
    problems of all runs.
    """
    registry = registry if registry is not None else discover().registry()
    layers = source_layers(source, trust=trust)
    merged = merge_layers(layers, [override for override in overrides if override.startswith(f"{SWEEP_TABLE}.")])
    rest = [override for override in overrides if not override.startswith(f"{SWEEP_TABLE}.")]
    is_sweep = SWEEP_TABLE in merged.values
    varied = _varied(merged) if is_sweep else [[]]
    plain = [replace(layer, values={k: v for k, v in layer.values.items() if k != SWEEP_TABLE}) for layer in layers]
    sweep_name = str(merged.values.get("name", name or default_name(source)))
    runs, problems = [], dict[Problem, None]()
    for number, overridden in enumerate(varied, start=1):
        changes = {_toml_path(override.key): override.value for override in overridden}
        name_parts = list(map(_slug, changes.values())) or ["unchanged"]
        run_name = "-".join([f"{number:0{len(str(len(varied)))}}", *name_parts])[:100]
        try:
            recipe = resolve(merge_layers(plain, [*rest, *overridden]), registry, sweep_name)
        except RecipeError as error:
            problems |= dict.fromkeys(error.problems)
            if len(problems) > MAX_PROBLEMS:
                break
            continue
        if is_sweep:
            recipe = replace(recipe, name=f"{sweep_name}-{run_name}"[:150])
        runs.append(SweepRun(run_name, changes, recipe))
    if problems:
        raise RecipeError(problems)
    return sweep_name, tuple(runs)


def _varied(merged: MergedRecipe) -> list[list[Override]]:
    """Return the changes of each run. Raises RecipeError if `[sweep]` is invalid."""
    values = merged.values[SWEEP_TABLE]
    if not isinstance(values, Mapping):
        table = Table(merged, (), {}, "the recipe")
        raise RecipeError([table.problem("`sweep` must be a single table", (SWEEP_TABLE,), "write [sweep.over]")])
    table = Table(merged, (SWEEP_TABLE,), values, f"[{SWEEP_TABLE}]")
    section = validate(SweepSection, table)
    if section is None:
        raise RecipeError(merged.problems)
    lists = dict(_varied_lists(section.over))
    for key, choices in lists.items():
        if not isinstance(choices, list) or not choices:
            message = f"`{_toml_path(key)}` in [sweep.over] must be a list of values"
            hint = "write its values in brackets: [1, 2]" if choices == [] else f"write [{toml_value(choices)}]"
            merged.problems.append(table.problem(message, ("over", *key), hint))
    if not merged.problems and section.mode == "zip" and len({len(choices) for choices in lists.values()}) > 1:
        lengths = ", ".join(f"{_toml_path(key)} has {counted(len(values), 'value')}" for key, values in lists.items())
        merged.problems.append(table.problem(f'mode "zip" needs lists of the same length: {lengths}', ("over",)))
    if merged.problems:
        raise RecipeError(merged.problems[:MAX_PROBLEMS])
    overrides = [list(_overrides(merged, key, choices)) for key, choices in lists.items()]
    chosen = list(itertools.islice(_combined(section.mode, overrides), _MAX_RUNS + 1))
    if len(chosen) > _MAX_RUNS:
        raise RecipeError([table.problem(f"this sweep has more than {_MAX_RUNS:,} runs", ("over",))])
    return chosen


def _overrides(merged: MergedRecipe, key: Key, choices: Sequence[Any]) -> Iterator[Override]:
    """Yield each value of `key`, with its position in the list."""
    written = (SWEEP_TABLE, "over", *key)
    for index, value in enumerate(choices):
        name, entry = merged.origin(written), merged.origin((*written, index))
        if name.position and entry.position:
            entry = replace(entry, position=Position(name.position.key, entry.position.value))
        yield Override(tuple(map(str, key)), value, entry.source, entry)


def _combined(mode: str, lists: Sequence[list[Override]]) -> Iterator[list[Override]]:
    if mode == "ablation":
        yield []
        yield from ([override] for choices in lists for override in choices)
        return
    yield from map(list, (itertools.product if mode == "grid" else zip)(*lists))


def _varied_lists(table: Mapping[str, Any], key: Key = ()) -> Iterator[tuple[Key, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _varied_lists(value, (*key, name))
        else:
            yield (*key, name), value


def _toml_path(key: Key) -> str:
    return ".".join(toml_key(str(part)) for part in key)


def _slug(value: Any) -> str:
    """Return a value as part of the name of a folder."""
    return re.sub(r"[^\w.+-]+", "_", toml_value(value)).strip("_")
