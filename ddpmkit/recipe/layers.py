"""Several sources as one tree: `extends` chains, then `--set`, the later over the earlier.

Tables merge; arrays and plain values replace. It knows of components only that a section which changes its `use` can
keep nothing that belonged to the former one.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ddpmkit.plugin.finder import BUILTIN_NAMESPACE
from ddpmkit.recipe.overrides import Override, parse_override
from ddpmkit.recipe.problems import Problem, RecipeError, one_line
from ddpmkit.recipe.recipe_file import Layer, as_toml_data, read_file
from ddpmkit.recipe.schema import LOCK_TABLE, SECTIONS, section_at
from ddpmkit.recipe.signature import is_own
from ddpmkit.recipe.toml_positions import Key, Origin

__all__ = ["Layered", "file_layers", "layered", "marked"]

_LONGEST_CHAIN = 50


@dataclass
class Layered:
    """The merged tree; where each of its parts was written; what was dropped, and what is wrong, on the way."""

    source: str
    """The topmost source, which is to blame for what nobody wrote."""
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, Origin] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)
    """Keys that are written and have no effect, each in a sentence."""
    problems: list[Problem] = field(default_factory=list)

    def origin(self, key: Key) -> Origin:
        """Who wrote `key`, or the nearest table around it."""
        while key and key not in self.origins:
            key = key[:-1]
        return self.origins.get(key, Origin(self.source))

    def merge(self, key: Key, table: dict[str, Any], new: Mapping[str, Any], origin: Callable[[Key], Origin]) -> None:
        """Lay `new` over `table`, which stands at `key`."""
        self._restart(key, table, new, origin)
        for name, value in new.items():
            here = (*key, name)
            below = table.get(name)
            if isinstance(value, Mapping) and isinstance(below, dict):
                self.origins[here] = origin(here)
                self.merge(here, below, value, origin)
            else:
                self._forget(here, below)
                table[name] = as_toml_data(value)
                self.origins |= {written: origin(written) for written in _keys(here, value)}

    def override(self, override: Override) -> None:
        """Lay a single value over the tree."""
        table: Any = self.values
        key: Key = ()
        for name in self._indexed(override.key)[:-1]:
            # No list is so long that its index has more digits, and Python refuses to read thousands of them.
            is_index = isinstance(table, list) and name.isdecimal() and len(name) < 10
            part: str | int = int(name) if is_index else name
            key = (*key, part)
            if isinstance(table, dict):
                section = SECTIONS.get(name) if table is self.values else None
                table = table.setdefault(name, [] if section is not None and section.many else {})
            else:
                table = table[part] if isinstance(part, int) and part < len(table) else None
            if not isinstance(table, dict | list):
                self.problems.append(Problem(f"the recipe has no table `{_dotted(key)}`", override.source))
                return
        if isinstance(table, list):
            message = f"`{_dotted(key)}` is a list: set it whole, or a key of one of its tables ({_dotted(key)}.0.KEY)"
            uses = [entry.get("use") if isinstance(entry, dict) else None for entry in table]
            named = [f"{_dotted((*key, index))} is {use}" for index, use in enumerate(uses) if isinstance(use, str)]
            self.problems.append(Problem(message, override.source, hints=(", ".join(named),) if named else ()))
            return
        self.merge(key, table, {override.key[-1]: override.value}, lambda _: override.origin or Origin(override.source))

    def _indexed(self, key: tuple[str, ...]) -> tuple[str, ...]:
        """`metric.every` means that of the only [[metric]], if there is one only."""
        entries = self.values.get(key[0]) if len(key) > 1 else None
        only = isinstance(entries, list) and len(entries) == 1 and key[0] in SECTIONS and not key[1].isdecimal()
        return (key[0], "0", *key[1:]) if only else key

    def _restart(
        self, key: Key, table: dict[str, Any], new: Mapping[str, Any], origin: Callable[[Key], Origin]
    ) -> None:
        """Drop the old component's keys when `new` names another."""
        section = section_at(key)
        if section is None or "use" not in new:
            return
        before, after = table.get("use", section.default_use), new["use"]
        dropped = [name for name in table if name not in section.keys]
        if not dropped or not isinstance(before, str) or not isinstance(after, str) or _same(before, after):
            return
        written = ", ".join(f"{name} ({self.origins[*key, name]})" for name in dropped)
        for name in dropped:
            self._forget((*key, name), table.pop(name))
        note = f"{origin((*key, 'use'))}: {section} uses {after} instead of {before}; dropped {written}"
        self.notes.append(one_line(note))

    def _forget(self, key: Key, value: Any) -> None:
        """Who wrote `value`, which stood at `key`."""
        for written in _keys(key, value):
            self.origins.pop(written, None)


def layered(layers: Sequence[Layer], overrides: Sequence[str | Override] = ()) -> Layered:
    """Merge layers, the topmost last, then apply overrides, also as `key=value` strings."""
    tree = Layered(layers[-1].source)
    for layer in layers:
        tree.merge((), tree.values, layer.values, layer.origin)
    parsed = [parse_override(each) if isinstance(each, str) else each for each in overrides]
    tree.problems += [item for item in parsed if isinstance(item, Problem)]
    wanted = [item for item in parsed if isinstance(item, Override)]
    # `use` first: a component and its keys may be set in any order.
    for override in sorted(wanted, key=lambda item: item.key[-1] != "use"):
        tree.override(override)
    return tree


def marked(layer: Layer) -> Layer:
    """The layer as it was read, and whether it is the lock of a run, and of whose run."""
    of_lock = LOCK_TABLE in layer.values
    return replace(layer, of_lock=of_lock, foreign=of_lock and not is_own(layer.values))


def file_layers(top: Layer, folder: Path, seen: tuple[Path, ...] = ()) -> list[Layer]:
    """`top` and what it extends (relative to `folder`), the base first. Raises RecipeError.

    `extends` itself is used up; a base's `name` is its own and is not inherited.
    """
    values = dict(top.values)
    extends = values.pop("extends", None)
    if extends is None:
        return [top]
    here = ("extends",)
    if not isinstance(extends, str) or not extends:
        raise RecipeError([top.problem("`extends` must be the name of a recipe file", here)])
    path = folder / extends
    base = marked(read_file(path, blame=top.problem("`extends` asks for", here)))
    chain = (*seen, path.resolve())
    if chain[-1] in seen:
        circle = " -> ".join(os.path.relpath(file) for file in chain[chain.index(chain[-1]) :])
        raise RecipeError([top.problem("`extends` goes round in a circle", here, circle)])
    if len(chain) > _LONGEST_CHAIN:
        raise RecipeError([top.problem(f"`extends` leads through more than {_LONGEST_CHAIN} recipes", here)])
    unnamed = {name: value for name, value in base.values.items() if name != "name"}
    return [*file_layers(replace(base, values=unnamed), path.parent, chain), replace(top, values=values)]


def _keys(key: Key, value: Any) -> Iterator[Key]:
    """`key` and all keys inside its value."""
    yield key
    if isinstance(value, Mapping | list):
        for part, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _keys((*key, part), inner)


def _same(first: str, second: str) -> bool:
    """A bare name means the built-in."""
    return first.removeprefix(f"{BUILTIN_NAMESPACE}/") == second.removeprefix(f"{BUILTIN_NAMESPACE}/")


def _dotted(key: Key) -> str:
    return ".".join(map(str, key))
