"""Recipes: read a TOML file into a checked `Recipe`, or report all its errors. Does not import torch."""

from ddpmkit.recipe.checks.requirements import missing_code
from ddpmkit.recipe.diff import Change, differences
from ddpmkit.recipe.layers import reject_unused_overrides
from ddpmkit.recipe.lock import Lock, current_provenance, lock_text, read_lock, read_lock_values
from ddpmkit.recipe.problems import Problem, RecipeError
from ddpmkit.recipe.provenance import Provenance, provenance_of
from ddpmkit.recipe.read import chosen_registry, read_recipe
from ddpmkit.recipe.recipe import Part, Recipe, evaluation_keys
from ddpmkit.recipe.schema.json_schema import recipe_schema, schema_text
from ddpmkit.recipe.schema.key_descriptions import KeyDescriptions, keys_text
from ddpmkit.recipe.schema.sections import (
    BackboneSection,
    DataSection,
    DiffusionSection,
    LossSection,
    MetricSection,
    SamplerSection,
    ScheduleSection,
    TrackerSection,
)
from ddpmkit.recipe.schema.train_section import TrainSection
from ddpmkit.recipe.schema.weights_choice import WeightsChoice, parse_weights
from ddpmkit.recipe.sweep import SweepRun, read_sweep
from ddpmkit.recipe.toml.positions import Key, Origin, Position, Span
from ddpmkit.recipe.toml.writer import TomlLine, toml_lines, toml_text, toml_value

__all__ = [
    "BackboneSection",
    "Change",
    "DataSection",
    "DiffusionSection",
    "Key",
    "KeyDescriptions",
    "Lock",
    "LossSection",
    "MetricSection",
    "Origin",
    "Part",
    "Position",
    "Problem",
    "Provenance",
    "Recipe",
    "RecipeError",
    "SamplerSection",
    "ScheduleSection",
    "Span",
    "SweepRun",
    "TomlLine",
    "TrackerSection",
    "TrainSection",
    "WeightsChoice",
    "chosen_registry",
    "current_provenance",
    "differences",
    "evaluation_keys",
    "keys_text",
    "lock_text",
    "missing_code",
    "parse_weights",
    "provenance_of",
    "read_lock",
    "read_lock_values",
    "read_recipe",
    "read_sweep",
    "recipe_schema",
    "reject_unused_overrides",
    "schema_text",
    "toml_lines",
    "toml_text",
    "toml_value",
]
