"""Keys, defaults and limits of recipe sections and components, in the words people read.

It does not know where they are shown.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.schema import SECTIONS
from ddpmkit.recipe.writing import toml_value

__all__ = ["DescribedKey", "described_keys", "keys_text"]

_LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "multipleOf": "multiple of",
}

DescribedKey = tuple[str, str, str, str]
"""Key, default, limits (may be empty), description."""


def described_keys(model: type[BaseModel]) -> Iterator[DescribedKey]:
    """The keys of a model in the order in which they are declared."""
    for key, schema in model.model_json_schema().get("properties", {}).items():
        yield key, _default(schema), _limits(schema), " ".join(schema.get("description", "").split())


def keys_text(registry: Registry) -> str:
    """Markdown: for every section a table of the core's keys, then one for each component that can fill it."""
    lines: list[str] = []
    for name, section in SECTIONS.items():
        lines += [f"## [[{name}]]" if section.many else f"## [{name}]", "", *_table(section.model)]
        if section.kind is None:
            continue
        for entry in registry.of_kind(section.kind):
            heading = [
                f'### `use = "{entry.use}"`',
                "",
                f"{entry.component.summary[:1].upper()}{entry.component.summary[1:]}.",
            ]
            lines += [*heading, "", *_table(entry.config_model())]
    return "\n".join(lines).rstrip() + "\n"


def _table(model: type[BaseModel]) -> list[str]:
    rows = [
        f"| `{key}` | `{default}` | {description}{f' ({limits})' if limits else ''} |"
        for key, default, limits, description in described_keys(model)
    ]
    return ["| key | default | |", "| --- | --- | --- |", *(row.replace("\n", " ") for row in rows), ""] if rows else []


def _default(schema: Mapping[str, Any]) -> str:
    if "default" not in schema:
        return "required"
    return "unset" if schema["default"] is None else toml_value(schema["default"])


def _limits(schema: Mapping[str, Any]) -> str:
    """The range, or the choices."""
    choices = [toml_value(choice) for choice in schema.get("enum", ())]
    limits = [f"{word} {schema[name]}" for name, word in _LIMITS.items() if name in schema]
    return " or ".join(choices) if choices else ", ".join(limits)
