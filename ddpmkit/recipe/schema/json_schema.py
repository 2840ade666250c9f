"""The JSON schema of recipes, with which editors complete keys and show defaults and descriptions.

It contains every key that a section can have. Only `ddpmkit recipe check` can tell which of them belong to the
component in use, because the base recipe, in another
file, may select the component.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.schema.section_list import LOCK_TABLE, SECTIONS, SWEEP_TABLE, Header, SectionKind, SweepSection

__all__ = ["recipe_schema", "schema_text"]

_REFERENCE = "#/$defs/{model}"


def schema_text(registry: Registry) -> str:
    """Return the schema as JSON text."""
    return json.dumps(recipe_schema(registry), indent=2, ensure_ascii=False) + "\n"


def recipe_schema(registry: Registry) -> dict[str, Any]:
    """Return one property for each section, with the keys of every component in `registry` that it can select."""
    models: list[type[BaseModel]] = [Header, SweepSection, *(section.model for section in SECTIONS.values())]
    models += [entry.config_model() for section in SECTIONS.values() for entry in _components(registry, section)]
    references, shared = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)], ref_template=_REFERENCE
    )
    definitions = shared.get("$defs", {})
    by_model = {
        model: _properties(definitions.pop(reference["$ref"].rpartition("/")[2]))
        for (model, _), reference in references.items()
    }
    sections = {name: _section(section, registry, by_model) for name, section in SECTIONS.items()}
    sweep = {
        "type": "object",
        "description": SweepSection.__doc__,
        "properties": by_model[SweepSection],
        "additionalProperties": False,
        "required": ["over"],
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "ddpmkit recipe",
        "type": "object",
        "additionalProperties": False,
        "properties": by_model[Header] | sections | {SWEEP_TABLE: sweep, LOCK_TABLE: {"type": "object"}},
        "$defs": definitions,
    }


def _section(section: SectionKind, registry: Registry, by_model: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of one section. With a component of another package, any key is allowed."""
    properties = dict(by_model[section.model])
    components = _components(registry, section)
    for entry in components:
        for key, field in by_model[entry.config_model()].items():
            described = field | {"description": f"{entry.use}: {field.get('description', '')}".rstrip(": ")}
            known = properties.get(key)
            properties[key] = described if known is None else {"anyOf": [*known.get("anyOf", [known]), described]}
    table: dict[str, Any] = {"type": "object", "description": section.model.__doc__, "properties": properties}
    if section.kind is None:
        table["additionalProperties"] = False
    else:
        built_in = [{"const": entry.use, "description": entry.component.summary} for entry in components]
        third_party = {"type": "string", "pattern": "/"}
        properties["use"] = properties["use"] | {"anyOf": [*built_in, third_party]}
        selects_third_party = {"properties": {"use": third_party}, "required": ["use"]}
        table["if"], table["else"] = selects_third_party, {"propertyNames": {"enum": list(properties)}}
    return {"type": "array", "items": table} if section.repeatable else table


def _properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a model, without the titles that pydantic derives from their names."""
    return {
        name: {keyword: value for keyword, value in field.items() if keyword != "title"}
        for name, field in schema.get("properties", {}).items()
    }


def _components(registry: Registry, section: SectionKind) -> list[Any]:
    return list(registry.of_kind(section.kind)) if section.kind else []
