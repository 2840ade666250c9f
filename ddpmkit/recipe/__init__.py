"""Recipes: TOML in, a checked `Recipe` or all its errors out. Importing it imports no torch."""

from ddpmkit.recipe.diff import Change, differences
from ddpmkit.recipe.json_schema import recipe_schema, schema_text
from ddpmkit.recipe.key_reference import keys_text
from ddpmkit.recipe.lock import Lock, lock_text, made_here, read_lock, read_lock_values
from ddpmkit.recipe.overrides import check_used
from ddpmkit.recipe.problems import Problem, RecipeError
from ddpmkit.recipe.provenance import MadeWith
from ddpmkit.recipe.read import chosen_registry, read_recipe
from ddpmkit.recipe.readiness import absent_code
from ddpmkit.recipe.recipe import Part, Recipe
from ddpmkit.recipe.schema import (
    BackboneSection,
    DataSection,
    DiffusionSection,
    LossSection,
    MetricSection,
    SamplerSection,
    ScheduleSection,
    TrackerSection,
    TrainSection,
)
from ddpmkit.recipe.scores import evaluation_keys
from ddpmkit.recipe.sweep import SweepRun, read_sweep
from ddpmkit.recipe.toml_positions import Key, Origin, Position, Span
from ddpmkit.recipe.toml_writer import TomlLine, toml_lines, toml_text, toml_value
from ddpmkit.recipe.weights_choice import Weights, parse_weights

__all__ = [
    "BackboneSection",
    "Change",
    "DataSection",
    "DiffusionSection",
    "Key",
    "Lock",
    "LossSection",
    "MadeWith",
    "MetricSection",
    "Origin",
    "Part",
    "Position",
    "Problem",
    "Recipe",
    "RecipeError",
    "SamplerSection",
    "ScheduleSection",
    "Span",
    "SweepRun",
    "TomlLine",
    "TrackerSection",
    "TrainSection",
    "Weights",
    "absent_code",
    "check_used",
    "chosen_registry",
    "differences",
    "evaluation_keys",
    "keys_text",
    "lock_text",
    "made_here",
    "parse_weights",
    "read_lock",
    "read_lock_values",
    "read_recipe",
    "read_sweep",
    "recipe_schema",
    "schema_text",
    "toml_lines",
    "toml_text",
    "toml_value",
]
