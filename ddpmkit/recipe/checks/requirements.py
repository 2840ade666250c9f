"""Checks that everything that a recipe requires is installed: the packages of `[requires]`, the code of its components.

Missing code is not an error when a recipe is read: the recipe of a finished run can be read on a machine on which it
cannot run.
"""

import importlib.metadata
import shlex
from collections.abc import Iterator, Mapping, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ddpmkit.recipe.checks.table import Table
from ddpmkit.recipe.problems import Problem
from ddpmkit.recipe.recipe import Recipe
from ddpmkit.recipe.toml.positions import Origin

__all__ = ["missing_code", "unmet_requirements", "unused_sources"]


def unmet_requirements(table: Table, plugins: Sequence[str], sources: Mapping[str, str]) -> Iterator[Problem]:
    """Yield one problem for each package of `[requires] plugins` that is not installed in a matching version.

    The hint is the pip command that installs it, by name or from its place in `sources`.
    """
    places = {canonicalize_name(name): source for name, source in sources.items()}
    for index, text in enumerate(plugins):
        path = ("plugins", index)
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            message = f"{text!r} in [requires] is not a package with a version"
            yield table.problem(message, path, 'write it as for pip: "ddpmkit-acme>=1.2"')
            continue
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        command = f"pip install {shlex.quote(places.get(canonicalize_name(requirement.name), text))}"
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield table.problem(f"the recipe requires {text}, which is not installed", path, command)
            continue
        # A pre-release that is installed was chosen by the user.
        if not requirement.specifier.contains(version, prereleases=True):
            message = f"the recipe requires {text}, but {requirement.name} {version} is installed"
            yield table.problem(message, path, command)


def unused_sources(plugins: Sequence[str], sources: Mapping[str, str]) -> Iterator[str]:
    """Yield the names in `sources` that `plugins` does not require."""
    names = {canonicalize_name(Requirement(text).name) for text in plugins}
    yield from (name for name in sources if canonicalize_name(name) not in names)


def missing_code(recipe: Recipe, source: str) -> Iterator[Problem]:
    """Yield one problem for each component whose code is not installed, as far as can be checked without an import.

    `source` is named for components that are selected by default.
    """
    for key, part in recipe.places():
        if (error := part.component.missing_code()) is not None:
            origin = recipe.origins.get((*key, "use"), Origin(source))
            span = origin.position.value if origin.position else None
            yield Problem(error.message.rstrip("."), origin.source, span, error.remedies)
