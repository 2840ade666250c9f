"""Whether the code of a recipe's components is there, as far as that can be told without importing any.

A recipe may be read where it could not run, as that of a finished run is; so this is asked apart from reading it.
"""

from collections.abc import Iterator

from ddpmkit.recipe.problems import Problem
from ddpmkit.recipe.recipe import Recipe
from ddpmkit.recipe.toml_positions import Origin

__all__ = ["absent_code"]


def absent_code(recipe: Recipe, source: str) -> Iterator[Problem]:
    """One problem for each component that cannot be built here; `source` is to blame for what nobody wrote."""
    for key, part in recipe.places():
        if (error := part.component.missing_code()) is not None:
            origin = recipe.origins.get((*key, "use"), Origin(source))
            span = origin.position.value if origin.position else None
            yield Problem(error.message.rstrip("."), origin.source, span, error.remedies)
