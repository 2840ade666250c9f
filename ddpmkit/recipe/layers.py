"""Merges the layers of a recipe: base recipes first, then the recipe itself, then `--set KEY=VALUE`.

Tables are merged; arrays and plain values are replaced. If a layer selects another component for a section, the keys of
the previous component are dropped.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ddpmkit.plugin.finder import BUILTIN_NAMESPACE
from ddpmkit.recipe.problems import Problem, RecipeError, listed, one_line
from ddpmkit.recipe.schema.section_list import SECTIONS, section_at
from ddpmkit.recipe.toml.positions import Key, Origin, dotted
from ddpmkit.recipe.toml_file import Layer, as_toml_data, overlong_key

__all__ = ["MergedRecipe", "Override", "merge_layers", "parse_override", "reject_unused_overrides"]

_OPENING = re.compile(r"""["'\[{]""")


class Override(NamedTuple):
    """One value for one key, as `--set` gives it."""

    key: tuple[str, ...]
    value: Any
    source: str
    origin: Origin | None = None
    """Where it comes from if not from the command line."""


@dataclass
class MergedRecipe:
    """The merged values, the origin of each, and the notes and problems found so far."""

    source: str
    """The topmost source; used in messages about values that no file contains."""
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, Origin] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unused_key_notes: list[str] = field(default_factory=list)
    """A sentence for each key that is written and has no effect."""
    problems: list[Problem] = field(default_factory=list)

    def origin(self, key: Key) -> Origin:
        """Return where `key` is written, or the nearest table around it."""
        while key and key not in self.origins:
            key = key[:-1]
        return self.origins.get(key, Origin(self.source))

    def set_by_user(self, key: Key) -> bool:
        """Return whether the user wrote this key, in a recipe or with `--set`. False for a default, and in a lock."""
        origin = self.origins.get(key)
        return origin is not None and not origin.is_from_lock

    def merge(self, key: Key, table: dict[str, Any], new: Mapping[str, Any], origin: Callable[[Key], Origin]) -> None:
        """Merge `new` into `table`, which is at `key`."""
        self._drop_keys_of_previous_component(key, table, new, origin)
        for name, value in new.items():
            path = (*key, name)
            below = table.get(name)
            if isinstance(value, Mapping) and isinstance(below, dict):
                self.origins[path] = origin(path)
                self.merge(path, below, value, origin)
            else:
                self._forget(path, below)
                table[name] = as_toml_data(value)
                self.origins |= {written: origin(written) for written in _keys(path, value)}

    def override(self, override: Override) -> None:
        """Set a single value."""
        table: Any = self.values
        key: Key = ()
        for name in self._indexed(override.key)[:-1]:
            # Longer digit strings cannot be an index; Python refuses to parse very long ones.
            is_index = isinstance(table, list) and name.isdecimal() and len(name) < 10
            part: str | int = int(name) if is_index else name
            key = (*key, part)
            if isinstance(table, dict):
                section = SECTIONS.get(name) if table is self.values else None
                table = table.setdefault(name, [] if section is not None and section.repeatable else {})
            else:
                table = table[part] if isinstance(part, int) and part < len(table) else None
            if not isinstance(table, dict | list):
                self.problems.append(Problem(f"the recipe has no table `{dotted(key)}`", override.source))
                return
        if isinstance(table, list):
            table_key = dotted(key)
            message = f"`{table_key}` is a list: set all of it, or a key of one of its tables ({table_key}.0.KEY)"
            uses = [entry.get("use") if isinstance(entry, dict) else None for entry in table]
            named = [f"{dotted((*key, index))} is {use}" for index, use in enumerate(uses) if isinstance(use, str)]
            self.problems.append(Problem(message, override.source, hints=(", ".join(named),) if named else ()))
            return
        self.merge(key, table, {override.key[-1]: override.value}, lambda _: override.origin or Origin(override.source))

    def _indexed(self, key: tuple[str, ...]) -> tuple[str, ...]:
        """Return `metric.0.every` for `metric.every` if there is exactly one [[metric]]."""
        entries = self.values.get(key[0]) if len(key) > 1 else None
        only = isinstance(entries, list) and len(entries) == 1 and key[0] in SECTIONS and not key[1].isdecimal()
        return (key[0], "0", *key[1:]) if only else key

    def _drop_keys_of_previous_component(
        self, key: Key, table: dict[str, Any], new: Mapping[str, Any], origin: Callable[[Key], Origin]
    ) -> None:
        """Drop the keys of the section's component if `new` selects another one."""
        section = section_at(key)
        if section is None or "use" not in new:
            return
        before, after = table.get("use", section.default_use), new["use"]
        dropped = [name for name in table if name not in section.keys]
        if (
            not dropped
            or not isinstance(before, str)
            or not isinstance(after, str)
            or _is_same_component(before, after)
        ):
            return
        written = ", ".join(f"{name} ({self.origins[*key, name]})" for name in dropped)
        for name in dropped:
            self._forget((*key, name), table.pop(name))
        note = f"{origin((*key, 'use'))}: {section} uses {after} instead of {before}; dropped {written}"
        self.notes.append(one_line(note))

    def _forget(self, key: Key, value: Any) -> None:
        """Remove the origins of `value`, which was at `key`."""
        for written in _keys(key, value):
            self.origins.pop(written, None)


def merge_layers(layers: Sequence[Layer], overrides: Sequence[str | Override] = ()) -> MergedRecipe:
    """Merge layers, the topmost last, then apply overrides; strings are `key=value`."""
    recipe = MergedRecipe(layers[-1].source)
    for layer in layers:
        recipe.merge((), recipe.values, layer.values, layer.origin)
    parsed = [parse_override(each) if isinstance(each, str) else each for each in overrides]
    recipe.problems += [item for item in parsed if isinstance(item, Problem)]
    valid = [item for item in parsed if isinstance(item, Override)]
    # `use` first, so that a component and its keys can be set in any order.
    for override in sorted(valid, key=lambda item: item.key[-1] != "use"):
        recipe.override(override)
    return recipe


def parse_override(text: str) -> Override | Problem:
    """Parse `train.steps=200`, `metric.0.every=100`, `schedule.use=linear` or `'data.classes=["cat"]'`.

    The value is TOML. A value that is not TOML, and does not begin with a quote or a bracket, is used as a string.
    """
    source = f"--set {text}"
    if overlong_key(text):
        return Problem("nested too deeply", source)
    name, equals, value = (part.strip() for part in text.partition("="))
    key = _key_parts(name)
    if not equals or not key:
        return Problem("this is not of the form KEY=VALUE", source, hints=("for example --set train.steps=200",))
    if not value:
        return Problem("the value is missing", source, hints=(f"""write --set '{name}=""' for an empty string""",))
    try:
        as_toml_data(name)
        return Override(key, as_toml_data(_value(value), key), source)
    except tomllib.TOMLDecodeError:
        return Problem(
            f"{value} is not a TOML value",
            source,
            hints=("put the whole argument in single quotes, so that the shell keeps the double quotes",),
        )
    except (ValueError, RecursionError) as error:
        return Problem(str(error) if isinstance(error, ValueError) else "nested too deeply", source)


def reject_unused_overrides(
    overrides: Sequence[str], used: Sequence[str], user: str, unused: Mapping[str, str] | None = None
) -> None:
    """Raise RecipeError for overrides that `user`, such as a command, does not use.

    `used` are sections and dotted keys; `unused` are keys in these sections that are not used, each with a hint.
    Malformed overrides are reported when they are applied.
    """
    problems = []
    unused = unused or {}
    for override in map(parse_override, overrides):
        if isinstance(override, Override):
            key = ".".join(override.key)
            if key in unused or not any(f"{key}.".startswith(f"{name}.") for name in used):
                hint = unused.get(key, f"it uses {listed(used, 'and')}")
                problems.append(Problem(f"{user} does not use `{key}`", override.source, hints=(hint,)))
    if problems:
        raise RecipeError(problems)


def _key_parts(name: str) -> tuple[str, ...]:
    """Return the parts of a TOML key; empty if `name` is not a key."""
    try:
        table = tomllib.loads(f"{name} = 0") if "\n" not in name else {}
    except (tomllib.TOMLDecodeError, RecursionError):
        return ()
    parts: list[str] = []
    while isinstance(table, dict) and table:
        ((part, table),) = table.items()
        parts.append(part)
    return tuple(parts)


def _value(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        if _OPENING.match(text):
            raise
        return text
    return table["value"] if len(table) == 1 else text


def _keys(key: Key, value: Any) -> Iterator[Key]:
    """Yield `key` and all keys inside its value."""
    yield key
    if isinstance(value, Mapping | list):
        for part, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _keys((*key, part), inner)


def _is_same_component(first: str, second: str) -> bool:
    """Return whether two names select the same component; a bare name selects a built-in."""
    return first.removeprefix(f"{BUILTIN_NAMESPACE}/") == second.removeprefix(f"{BUILTIN_NAMESPACE}/")
