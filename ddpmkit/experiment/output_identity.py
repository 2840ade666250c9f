"""Lists everything except the weights that generated images depend on (sampler, seed, precision, ...), as JSON data.

This identity is stored with images and scores, so that a resumed run detects which of them are missing or out of date.
"""

from typing import Any

from ddpmkit.experiment.model import Model
from ddpmkit.recipe import Part, Recipe, parse_weights

__all__ = ["component_identity", "grid_identity", "sampling_identity", "strips_identity"]


def sampling_identity(model: Model, weights: str) -> dict[str, Any]:
    """Return everything that images generated with these weights depend on, except their number."""
    recipe = model.recipe
    settings = recipe.sampler.settings
    return {
        "sampler": {
            **component_identity(recipe.sampler),
            "steps": model.sampling_steps,
            "guidance": settings.guidance,
        },
        "weights": _canonical_weights(weights, recipe),
        "seed": recipe.train.seed,
        "precision": model.runtime.precision,
    }


def grid_identity(model: Model) -> dict[str, Any]:
    """Return everything that a grid of samples depends on."""
    settings = model.recipe.sampler.settings
    return {"count": settings.count, **sampling_identity(model, settings.weights)}


def strips_identity(model: Model) -> dict[str, Any]:
    """Return what the strips of the forward and the reverse process depend on, except the seed, which users choose."""
    identity = sampling_identity(model, model.recipe.sampler.settings.weights)
    return {name: value for name, value in identity.items() if name != "seed"}


def component_identity(part: Part[Any]) -> dict[str, Any]:
    """Return the name of a component, the version of its code, and the keys that affect its results."""
    component = part.component
    return {"use": component.use, "version": component.plugin.version, "config": part.keys_with_effect()}


def _canonical_weights(weights: str, recipe: Recipe) -> str:
    """Return `ema` for `decay=D` if D is the recipe's decay: both name one average."""
    return str(recipe.train.stored_average(parse_weights(weights)) or weights)
