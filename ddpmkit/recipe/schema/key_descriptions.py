"""Describes the keys of a config model in words, for error messages and for the Markdown reference of all keys."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.problems import listed
from ddpmkit.recipe.schema.section_list import SECTIONS, SWEEP_TABLE, SweepSection
from ddpmkit.recipe.toml.positions import Key, dotted
from ddpmkit.recipe.toml.writer import toml_value

__all__ = ["KeyDescriptions", "keys_text"]

_NOUNS = {
    "integer": ("an integer", "integers"),
    "number": ("a number", "numbers"),
    "string": ("a string", "strings"),
    "boolean": ("true or false", "true or false"),
    "object": ("a table", "tables"),
}
_BOUNDS = {
    "minimum": "of at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "of at most {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "divisible by {}",
}


class KeyDescriptions:
    """Descriptions of the fields of a pydantic model, taken from its JSON schema."""

    def __init__(self, model: type[BaseModel]) -> None:
        """If the model has no JSON schema, only field names are available."""
        self.names = tuple(model.model_fields)
        try:
            schema = model.model_json_schema()
        except PydanticUserError:
            schema = {}
        self._schema: Mapping[str, Any] = schema
        self._definitions: Mapping[str, Mapping[str, Any]] = schema.get("$defs", {})

    def accepted(self, path: Key) -> str | None:
        """Return the accepted values in words, such as `an integer of at least 1`; None if that is impossible."""
        return self._words(self._at(path))

    def full(self, path: Key) -> str:
        """Return the name, accepted values and default: `steps`, an integer of at least 1 (default 10_000)."""
        words, default = self.accepted(path), self.default(path)
        name = f"`{dotted(path)}`"
        return (f"{name}, {words}" if words else name) + (f" (default {default})" if default else "")

    def default(self, path: Key) -> str | None:
        """Return the default as TOML; None if the key is required, or absent by default."""
        return _toml_or_none(self._at(path).get("default"))

    def purpose(self, path: Key) -> str | None:
        """Return the docstring of the field."""
        description = self._at(path).get("description")
        return " ".join(description.split()) if description else None

    def _at(self, path: Key) -> Mapping[str, Any]:
        """Return the schema of a field, of a field of a nested model, or of the entries of a list; empty if unknown."""
        schema = self._schema
        for part in path:
            schema = self._resolved(schema)
            schema = schema.get("properties", {}).get(part, {}) if isinstance(part, str) else schema.get("items", {})
        return schema if path else {}

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = schema.get("$ref")
        return self._definitions.get(reference.rpartition("/")[2], {}) if reference else schema

    def _words(self, schema: Mapping[str, Any], plural: bool = False) -> str | None:
        schema = self._resolved(schema)
        if "enum" in schema or "const" in schema:
            choices = [_toml_or_none(choice) for choice in schema.get("enum", [schema.get("const")])]
            return listed([choice for choice in choices if choice])
        if "anyOf" in schema:
            choices = [self._words(choice, plural) for choice in schema["anyOf"] if choice.get("type") != "null"]
            return listed([choice for choice in choices if choice]) if all(choices) else None
        kind = schema.get("type")
        if kind == "array":
            return self._list(schema, plural)
        if kind not in _NOUNS:
            return None
        noun = _NOUNS[kind][plural]
        if kind == "string" and schema.get("minLength", 0) > 0:
            noun = "non-empty strings" if plural else "a non-empty string"
        if kind == "object" and schema.get("minProperties", 0) > 0:
            noun = "tables with at least one key" if plural else "a table with at least one key"
        if "minimum" in schema and "maximum" in schema:
            return f"{noun} from {toml_value(schema['minimum'])} to {toml_value(schema['maximum'])}"
        bounds = [words.format(toml_value(schema[bound])) for bound, words in _BOUNDS.items() if bound in schema]
        return " ".join([noun, listed(bounds, "and")]) if bounds else noun

    def _list(self, schema: Mapping[str, Any], plural: bool) -> str:
        length = f"{schema['minItems']} " if schema.get("minItems", 0) == schema.get("maxItems") else ""
        prefix = schema.get("prefixItems", [])
        entry = prefix[0] if prefix and all(item == prefix[0] for item in prefix) else schema.get("items", {})
        words = self._words(entry, plural=True) if isinstance(entry, Mapping) else None
        return f"{'lists' if plural else 'a list'} of {length}{words or 'entries'}"


def keys_text(registry: Registry) -> str:
    """Return a Markdown table of the keys of each section, and one for each component that the section can select."""
    lines: list[str] = []
    for section in SECTIONS.values():
        lines += [f"## {section}", "", *_table(section.model)]
        for entry in registry.of_kind(section.kind) if section.kind else ():
            summary = entry.component.summary
            lines += [f'### `use = "{entry.use}"`', "", f"{summary[:1].upper()}{summary[1:]}.", ""]
            lines += _table(entry.config_model())
    lines += [f"## [{SWEEP_TABLE}]", "", *_table(SweepSection)]
    return "\n".join(lines).rstrip() + "\n"


def _table(model: type[BaseModel]) -> list[str]:
    keys = KeyDescriptions(model)
    if not keys.names:
        return []
    rows = []
    for name, field in model.model_fields.items():
        default = keys.default((name,))
        absent = "required" if field.is_required() else "unset"
        cells = [
            f"`{name}`",
            keys.accepted((name,)) or "",
            f"`{default}`" if default else absent,
            keys.purpose((name,)) or "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return ["| key | accepts | default | |", "| --- | --- | --- | --- |", *rows, ""]


def _toml_or_none(value: Any) -> str | None:
    """Return the value as TOML; None for values that TOML does not have, such as null."""
    try:
        return toml_value(value)
    except TypeError:
        return None
