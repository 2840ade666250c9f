"""Whether the code of a recipe's components is there, as far as that can be told without importing any.

A recipe may be read where it could not run, as that of a finished run is; so this is asked apart from reading it.
"""

from collections.abc import Iterator

from ddpmkit.recipe.positions import Key, Origin
from ddpmkit.recipe.problems import Problem
from ddpmkit.recipe.recipe import Recipe

__all__ = ["absent_code"]


def absent_code(recipe: Recipe, source: str) -> Iterator[Problem]:
    """One problem for each component that cannot be built here; `source` is to blame for what nobody wrote."""
    for key, part in zip(_keys(recipe), recipe.parts, strict=True):
        if (error := part.component.absence()) is not None:
            origin = recipe.origins.get((*key, "use"), Origin(source))
            span = origin.position.value if origin.position else None
            yield Problem(error.message.rstrip("."), origin.source, span, error.remedies)


def _keys(recipe: Recipe) -> Iterator[Key]:
    """Where each of `recipe.parts` stands."""
    yield from ((name,) for name in ("data", "schedule", "backbone", "loss", "sampler"))
    for name, parts in (("metric", recipe.metrics), ("tracker", recipe.trackers)):
        yield from ((name, index) for index in range(len(parts)))
