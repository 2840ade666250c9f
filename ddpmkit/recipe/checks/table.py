"""`Table`: the part of a recipe that one check reads. It makes the problems that point to its keys and values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddpmkit.recipe.layers import MergedRecipe
from ddpmkit.recipe.problems import Problem
from ddpmkit.recipe.schema.key_descriptions import KeyDescriptions
from ddpmkit.recipe.toml.positions import Key

__all__ = ["Table"]


@dataclass(frozen=True)
class Table:
    """A TOML table of the recipe, or the keys in it that one pydantic model describes."""

    recipe: MergedRecipe
    key: Key
    """The path of the table in the recipe."""
    values: Mapping[str, Any]
    title: str
    """`[train]`, `[[metric]]`."""
    owner: str = ""
    """The component that the keys belong to, such as "schedule `cosine`"; empty for keys of ddpmkit itself."""
    other_keys: Sequence[KeyDescriptions] = ()
    """Keys of other models that the same table may contain."""
    key_hints: Callable[[str], Sequence[str]] = lambda _: ()
    """Returns the hints for a key that is unknown or missing."""
    how_to_fix_model: Callable[[BaseException], str] = lambda _: "report it to the authors of ddpmkit"
    """Returns the hint for an error in the code of the model."""

    def problem(self, message: str, path: Key = (), *hints: str | None, at_key: bool = False) -> Problem:
        """Return a problem with the value at `path` in this table, or with its key if `at_key`."""
        origin = self.recipe.origin((*self.key, *path))
        span = (origin.position.key if at_key else origin.position.value) if origin.position else None
        return Problem(message, origin.source, span, tuple(hint for hint in hints if hint))
