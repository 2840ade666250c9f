"""`Provenance`: the table `[lock]` of a lock file, with the versions and data that a run was made with.

Compares them with what is installed now.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ddpmkit.plugin.finder import FILE_HASH, LOCAL_NAMESPACE, FoundPlugin
from ddpmkit.plugin.registry import Registry, namespace_of
from ddpmkit.recipe.problems import one_line
from ddpmkit.recipe.schema.section_list import LOCK_TABLE

__all__ = ["Provenance", "provenance_of"]


class Provenance(BaseModel):
    """The table `[lock]`."""

    model_config = ConfigDict(strict=True)

    dataset_fingerprint: str
    alpha_bar_fingerprint: str | None = None
    """None in locks of versions that did not store it."""
    validation_images: int | None = None
    """Number of validation images; None in locks of versions that did not store it."""
    validation_fingerprint: str | None = None
    versions: dict[str, str]
    """Versions of `ddpmkit`, `python` and `torch`."""
    arithmetic: dict[str, str] = {}
    """What else affects rounding: device, precision, threads. Empty in older locks."""
    randomness: int = 1
    """What a seed means: `ddpmkit.randomness.RANDOMNESS_VERSION`. Older locks do not contain it; theirs is 1."""
    distributions: dict[str, str]
    """Version of every distribution that provided a component, by name; for a plugin that is a file, its hash."""

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the plugins that were files, as given on the command line."""
        return tuple(name for name, version in self.distributions.items() if version.startswith(FILE_HASH))

    def version_of(self, plugin: FoundPlugin) -> str | None:
        """Return the version of the plugin in the run; None if the run did not use the plugin.

        A plugin file may have been moved: then its name is compared.
        """
        if plugin.path is None or plugin.distribution in self.distributions:
            return self.distributions.get(plugin.distribution)
        same_name = (file for file in self.distributions if Path(file).name == plugin.path.name)
        return next((self.distributions[file] for file in same_name), None)

    def plugin_change(self, plugin: FoundPlugin) -> str | None:
        """Return how the plugin has changed, or may have changed, since the run; None if unchanged or not used."""
        version_in_run = self.version_of(plugin)
        if version_in_run is None or (plugin.path is not None and version_in_run == plugin.version):
            return None
        if version_in_run == plugin.version:
            return f"{plugin.distribution} {version_in_run} then and now, so it was changed without a new version"
        return f"{plugin.distribution} {version_in_run} then, {plugin.version} now"

    def restore_hints(self, plugin: FoundPlugin) -> Iterator[str]:
        """Yield the commands that restore a plugin to the version of the run."""
        version_in_run = self.version_of(plugin)
        if plugin.path is not None or version_in_run == plugin.version:
            yield f"restore {plugin.path or plugin.distribution} as it was to continue this run"
        else:
            yield one_line(
                f"pip install {shlex.quote(f'{plugin.distribution}=={version_in_run}')}  to continue this run"
            )

    def install_hints(self, use: str, registry: Registry) -> Iterator[str]:
        """Yield the commands that install the component that the run used and that `registry` does not have."""
        namespace = namespace_of(use)
        for plugin in registry.plugins:
            if plugin.namespace == namespace and (why := self.plugin_change(plugin)) is not None:
                yield f"the run was made with another version: {why}"
                yield from self.restore_hints(plugin)
        installed = {plugin.path.name if plugin.path else plugin.distribution for plugin in registry.plugins}
        if namespace == LOCAL_NAMESPACE:
            missing = [file for file in self.files if Path(file).name not in installed]
            yield from (
                f"add --plugin {shlex.quote(file)} to load the file that the run was made with" for file in missing
            )
        else:
            packages = {name: version for name, version in self.distributions.items() if name not in self.files}
            missing = [f"{name}=={version}" for name, version in packages.items() if name not in installed]
            yield from (
                f"run `pip install {shlex.quote(package)}` to install what the run was made with" for package in missing
            )

    def version_changes(self, current: Self, plugins: Iterable[FoundPlugin]) -> Iterator[str]:
        """Yield the changed versions of ddpmkit, Python, torch and the given plugins."""
        versions_in_run = dict(self.versions) | {plugin.distribution: self.version_of(plugin) for plugin in plugins}
        for name, version in (current.versions | current.distributions).items():
            if versions_in_run.get(name) not in (None, version):
                yield one_line(f"{name}: {versions_in_run[name]} -> {version}")

    def arithmetic_changes(self, current: Self) -> Iterator[str]:
        """Yield each change of device, precision or threads, which affects the rounding of sums."""
        for name, value in current.arithmetic.items():
            if (value_in_run := self.arithmetic.get(name)) not in (None, value):
                yield one_line(f"{name}: {value_in_run} -> {value}")

    def validation_change(self, current: Self) -> str | None:
        """Return how the validation images have changed; None if they have not, or if that is unknown."""
        if self.validation_images is None or self.validation_fingerprint == current.validation_fingerprint:
            return None
        return f"the validation images: {self.validation_images} then, {current.validation_images} now"


def provenance_of(recipe: Mapping[str, Any]) -> Provenance | None:
    """Return the table `[lock]` of a recipe; None if there is no complete one."""
    try:
        return Provenance.model_validate(recipe.get(LOCK_TABLE))
    except ValidationError:
        return None
