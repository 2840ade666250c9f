"""What a run was made with, as its lock tells, against what is installed now.

It does not know what the recipe in the lock says.
"""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ddpmkit.plugin.found import FoundPlugin
from ddpmkit.recipe.schema import LOCK_TABLE

__all__ = ["MadeWith", "made_with"]


class MadeWith(BaseModel):
    """The table `[lock]`."""

    model_config = ConfigDict(strict=True)

    dataset_fingerprint: str
    versions: dict[str, str]
    """Of `ddpmkit`, `python` and `torch`."""
    distributions: dict[str, str]
    """Version of every distribution that supplied a component, by name; for a plugin that is a file, its hash."""

    def version_of(self, plugin: FoundPlugin) -> str | None:
        """What the plugin's version was; None for one that had no part in the run. A file may have been moved since."""
        if plugin.path is None or plugin.distribution in self.distributions:
            return self.distributions.get(plugin.distribution)
        same_name = (file for file in self.distributions if Path(file).name == plugin.path.name)
        return next((self.distributions[file] for file in same_name), None)

    def why_unlike(self, plugin: FoundPlugin) -> str | None:
        """In what the plugin is, or may be, not the one that the run was made with."""
        then = self.version_of(plugin)
        if then is None or (plugin.path is not None and then == plugin.version):
            return None
        if then == plugin.version:
            return f"{plugin.distribution} {then} then and now, so it was changed without a new version"
        return f"{plugin.distribution} {then} then, {plugin.version} now"

    def ways_back(self, plugin: FoundPlugin) -> Iterator[str]:
        """How to have a plugin again as the run had it."""
        then = self.version_of(plugin)
        if plugin.path is not None or then == plugin.version:
            yield f"put {plugin.path or plugin.distribution} back as it was to go on with this run"
        else:
            yield f"pip install {shlex.quote(f'{plugin.distribution}=={then}')}  to go on with this run"


def made_with(recipe: Mapping[str, Any]) -> MadeWith | None:
    """What a recipe's `[lock]` tells; None for one that is no lock of a run."""
    try:
        return MadeWith.model_validate(recipe.get(LOCK_TABLE))
    except ValidationError:
        return None
