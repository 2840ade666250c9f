"""What a recipe asks to be installed, against what is.

It does not know which components come from where: a distribution may be asked for whatever it brings.
"""

import importlib.metadata
import shlex
from collections.abc import Iterator, Mapping, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ddpmkit.recipe.problems import Problem
from ddpmkit.recipe.validation import Table

__all__ = ["unmet_requirements", "unused_sources"]


def unused_sources(plugins: Sequence[str], sources: Mapping[str, str]) -> Iterator[str]:
    """The names in `sources` that `plugins` does not require."""
    names = {canonicalize_name(Requirement(text).name) for text in plugins}
    yield from (name for name in sources if canonicalize_name(name) not in names)


def unmet_requirements(table: Table, plugins: Sequence[str], sources: Mapping[str, str]) -> Iterator[Problem]:
    """One problem for each distribution of `[requires] plugins` that is not installed in such a version.

    The remedy is a command that finds it: by its name, or at its place in `sources`.
    """
    places = {canonicalize_name(name): source for name, source in sources.items()}
    for index, text in enumerate(plugins):
        path = ("plugins", index)
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            message = f"{text!r} in [requires] is no distribution with versions"
            yield table.problem(message, path, 'write it as pip does: "ddpmkit-acme>=1.2"')
            continue
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        command = f"pip install {shlex.quote(places.get(canonicalize_name(requirement.name), text))}"
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield table.problem(f"the recipe requires {text}, which is not installed", path, command)
            continue
        # Whoever has installed a version before its release wants it.
        if not requirement.specifier.contains(version, prereleases=True):
            message = f"the recipe requires {text}, and {requirement.name} {version} is installed"
            yield table.problem(message, path, command)
