"""What a run was made with, as its lock tells, against what is installed now.

It does not know what the recipe in the lock says.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ddpmkit.plugin.finder import FILE_HASH, LOCAL_NAMESPACE, FoundPlugin
from ddpmkit.plugin.registry import Registry, namespace_of
from ddpmkit.recipe.problems import one_line
from ddpmkit.recipe.schema import LOCK_TABLE

__all__ = ["MadeWith", "made_with"]


class MadeWith(BaseModel):
    """The table `[lock]`."""

    model_config = ConfigDict(strict=True)

    dataset_fingerprint: str
    alpha_bar_fingerprint: str | None = None
    """None in a lock from before it was noted."""
    validation_images: int | None = None
    """How many held-out images there were; None in a lock from before it was noted."""
    validation_fingerprint: str | None = None
    versions: dict[str, str]
    """Of `ddpmkit`, `python` and `torch`."""
    arithmetic: dict[str, str] = {}
    """What rounding depends on beside versions: device, precision, threads. Empty in older locks."""
    distributions: dict[str, str]
    """Version of every distribution that supplied a component, by name; for a plugin that is a file, its hash."""

    @property
    def files(self) -> tuple[str, ...]:
        """The plugins that were files, by the path that was given; it is relative to the folder of the command."""
        return tuple(name for name, version in self.distributions.items() if version.startswith(FILE_HASH))

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
            yield one_line(f"pip install {shlex.quote(f'{plugin.distribution}=={then}')}  to go on with this run")

    def changes(self, now: Self, plugins: Iterable[FoundPlugin]) -> Iterator[str]:
        """What is installed in another version `now`, and which of these `plugins` are others than they were."""
        then = dict(self.versions) | {plugin.distribution: self.version_of(plugin) for plugin in plugins}
        for name, version in (now.versions | now.distributions).items():
            if then.get(name) not in (None, version):
                yield one_line(f"{name}: {then[name]} -> {version}")

    def other_validation_images(self, now: Self) -> str | None:
        """How the held-out images are not those that they were; None if they are, or if that is not known."""
        if self.validation_images is None or self.validation_fingerprint == now.validation_fingerprint:
            return None
        return f"the validation images: {self.validation_images} then, {now.validation_images} now"

    def rounds_otherwise(self, now: Self) -> Iterator[str]:
        """What `now` differs that the last digit of a sum depends on."""
        for name, value in now.arithmetic.items():
            if (then := self.arithmetic.get(name)) not in (None, value):
                yield one_line(f"{name}: {then} -> {value}")

    def ways_to(self, use: str, registry: Registry) -> Iterator[str]:
        """How to have the component that the run used, once it has turned out that `registry` lacks it."""
        namespace = namespace_of(use)
        for plugin in registry.plugins:
            if plugin.namespace == namespace and (why := self.why_unlike(plugin)) is not None:
                yield f"the run was made with another version: {why}"
                yield from self.ways_back(plugin)
        here = {plugin.path.name if plugin.path else plugin.distribution for plugin in registry.plugins}
        if namespace == LOCAL_NAMESPACE:
            gone = [file for file in self.files if Path(file).name not in here]
            yield from (f"--plugin {shlex.quote(file)}  loads what the run was made with" for file in gone)
        else:
            packages = {name: version for name, version in self.distributions.items() if name not in self.files}
            gone = [f"{name}=={version}" for name, version in packages.items() if name not in here]
            yield from (f"pip install {shlex.quote(package)}  installs what the run was made with" for package in gone)


def made_with(recipe: Mapping[str, Any]) -> MadeWith | None:
    """What a recipe's `[lock]` tells; None for one that is no lock of a run."""
    try:
        return MadeWith.model_validate(recipe.get(LOCK_TABLE))
    except ValidationError:
        return None
