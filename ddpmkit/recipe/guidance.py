"""What someone may have meant who wrote a key where it does not belong.

It does not know where keys were written.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ddpmkit.errors import PluginError
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.problems import did_you_mean
from ddpmkit.recipe.schema import SECTIONS, Header, SectionKind

__all__ = ["homes_of", "unknown_at_top"]


def homes_of(registry: Registry, section: SectionKind | None, name: str) -> list[str]:
    """The other places in a recipe where a key of this name belongs, in sentences."""
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
    guesses = homes_of(registry, None, name) or ([f"did you mean `{close}`?"] if close else [])
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
