"""A recipe that runs in a second, and a registry with components of a test."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ddpmkit.plugin import Component
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registry import Registry

_SMALL: Mapping[str, Mapping[str, Any]] = {
    "data": {"use": "critters", "image_size": 8, "size": 8, "val_size": 4},
    "diffusion": {"timesteps": 6},
    "backbone": {"dim": 8, "multipliers": [1, 2], "linear_attention_levels": [1], "heads": 1, "head_dim": 8},
    "sampler": {"count": 4, "batch_size": 4},
    "train": {
        **{"steps": 20, "batch_size": 4, "log_every": 1},
        **{"sample_every": 0, "checkpoint_every": 0, "validate_every": 0},
    },
}


@pytest.fixture
def small() -> Callable[..., dict[str, Any]]:
    """The recipe with other sections; a section with another `use` starts from the defaults of that component."""

    def recipe(**sections: Any) -> dict[str, Any]:
        merged: dict[str, Any] = {"name": "small", **_SMALL}
        for name, section in sections.items():
            below = merged.get(name, {})
            merged[name] = {**below, **section} if isinstance(section, Mapping) and "use" not in section else section
        return merged

    return recipe


@pytest.fixture
def with_parts() -> Callable[..., Registry]:
    """A registry of all installed components and of these."""

    def registry(*components: Component) -> Registry:
        installed = [entry for entries in discover().registry().components.values() for entry in entries.values()]
        return Registry.from_components([*installed, *components])

    return registry
