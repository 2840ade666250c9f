"""What someone may have meant who wrote a key where it does not belong.

It does not know where keys were written.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ddpmkit.errors import PluginError
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.problems import did_you_mean, synonym
from ddpmkit.recipe.schema import SECTIONS, Header, SectionKind

__all__ = ["guidance_for", "unknown_at_top"]


def guidance_for(registry: Registry, section: SectionKind | None, name: str) -> list[str]:
    """For a key that is unknown in `section`, or missing there: where it belongs, or what it may say, in sentences."""
    if name == "use" and section is not None:
        names = [entry.use for entry in registry.of_kind(section.kind)] if section.kind else []
        return [f"available: {', '.join(names) or 'none'}" if section.kind else "no component fills this section"]
    if (usual := synonym(name)) and (section is None or usual not in section.keys):
        name = usual
    homes = [f"`{name}` stands above the first section"] if name in Header.model_fields else []
    homes += [
        f"`{name}` is a key of {other}" for other in SECTIONS.values() if other is not section and name in other.keys
    ]
    return [*homes, *(f'`{name}` is a key of {other} with use = "{use}"' for other, use in _owners(registry, name))]


def unknown_at_top(registry: Registry, name: str, value: Any) -> list[str]:
    """What is wrong, then hints, for a name that is neither a section nor a key above the sections."""
    is_table = isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value)
    )
    sections = f"sections: {', '.join(map(str, SECTIONS.values()))}"
    if is_table:
        close = did_you_mean(name, SECTIONS)
        return [f"unknown section [{name}]", *([f"did you mean {SECTIONS[close]}?"] if close else []), sections]
    close = did_you_mean(name, Header.model_fields)
    guesses = guidance_for(registry, None, name) or ([f"did you mean `{close}`?"] if close else [])
    return [
        f"unknown key `{name}` above the first section",
        *guesses,
        f"keys that may stand there: {', '.join(Header.model_fields)}",
    ]


def _owners(registry: Registry, name: str) -> Iterator[tuple[SectionKind, str]]:
    """The components with a config key of this name."""
    for section in SECTIONS.values():
        for entry in registry.of_kind(section.kind) if section.kind else ():
            try:
                if name in entry.config_model().model_fields:
                    yield section, entry.use
            except PluginError:
                continue  # a broken plugin has nothing to suggest; it is reported where it is used
