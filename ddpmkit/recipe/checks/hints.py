"""Hints for keys that are unknown or missing in a section: where they belong, and which values exist."""

from collections.abc import Iterator, Mapping
from typing import Any

from ddpmkit.errors import PluginError
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.problems import did_you_mean, synonym
from ddpmkit.recipe.schema.section_list import SECTIONS, Header, SectionKind
from ddpmkit.recipe.toml.writer import toml_key

__all__ = ["key_hints", "unknown_top_level_key"]


def key_hints(registry: Registry, section: SectionKind | None, name: str) -> list[str]:
    """Return hints for a key that is unknown or missing in `section`.

    They name the sections that have the key, or the values of `use`.
    """
    if name == "use" and section is not None:
        names = [entry.use for entry in registry.of_kind(section.kind)] if section.kind else []
        return [f"available: {', '.join(names) or 'none'}" if section.kind else "this section selects no component"]
    if "." in name:
        return [f"write {name} without quotes: a quoted name is a single key"]
    if (our_name := synonym(name)) and (section is None or our_name not in section.keys):
        name = our_name
    sections_with_key = [f"`{name}` belongs above the first section"] if name in Header.model_fields else []
    sections_with_key += [
        f"`{name}` is a key of {other}" for other in SECTIONS.values() if other is not section and name in other.keys
    ]
    return [
        *sections_with_key,
        *(f'`{name}` is a key of {other} with use = "{use}"' for other, use in _owners(registry, name)),
    ]


def unknown_top_level_key(registry: Registry, name: str, value: Any) -> list[str]:
    """Return the message, then hints, for a name that is neither a section nor a key above the sections."""
    is_table = isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value)
    )
    if is_table:
        close = did_you_mean(name, SECTIONS)
        suggestion = [f"did you mean {SECTIONS[close]}?"] if close else []
        return [f"unknown section [{name}]", *suggestion, f"sections: {', '.join(map(str, SECTIONS.values()))}"]
    close = did_you_mean(name, Header.model_fields)
    guesses = key_hints(registry, None, name) or ([f"did you mean `{close}`?"] if close else [])
    known = ", ".join(Header.model_fields)
    shown = toml_key(name) if "." in name else name
    return [f"unknown key `{shown}` above the first section", *guesses, f"keys above the first section: {known}"]


def _owners(registry: Registry, name: str) -> Iterator[tuple[SectionKind, str]]:
    """Yield the components with a config key of this name."""
    for section in SECTIONS.values():
        for entry in registry.of_kind(section.kind) if section.kind else ():
            try:
                if name in entry.config_model().model_fields:
                    yield section, entry.use
            except PluginError:
                continue  # a broken plugin is reported only where it is used
