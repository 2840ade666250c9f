import json
from pathlib import Path

from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import read_recipe, read_sweep, recipe_schema, schema_text
from ddpmkit.recipe.schema.section_list import SECTIONS, Header
from ddpmkit.recipe.schema.sections import Section

ROOT = Path(__file__).parents[3]


def test_the_committed_schema_is_current() -> None:
    current = schema_text(discover(third_party=False).registry())
    assert (ROOT / "docs" / "recipe.schema.json").read_text(encoding="utf-8") == current, (
        "update it: ddpmkit recipe schema --no-plugins > docs/recipe.schema.json"
    )


def test_every_section_has_its_own_keys_and_those_of_its_components(registry: Registry) -> None:
    usable = [entry for kind in registry.components.values() for entry in kind.values() if entry.use != "lost"]
    schema = recipe_schema(Registry.from_components(usable))
    data = schema["properties"]["data"]
    assert data["properties"]["root"]["description"] == "image-folder: Folder with `train/` and `val/`."
    assert data["properties"]["use"]["anyOf"][1]["const"] == "image-folder"
    assert schema["properties"]["metric"]["items"]["properties"]["every"]["minimum"] == 0
    assert schema["properties"]["train"]["properties"]["betas"]["default"] == [0.9, 0.999]
    assert "Level" in schema["$defs"]
    assert "lacks" not in json.dumps(schema)


def test_every_key_of_the_core_has_a_description() -> None:
    models: list[type[Section]] = [Header, *(section.model for section in SECTIONS.values())]
    bare = [
        f"{model.__name__}.{name}"
        for model in models
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert bare == []


def test_every_shipped_recipe_is_valid() -> None:
    registry = discover(third_party=False).registry()
    # Recipes that require other packages are read in tests/test_third_party.py, which installs them.
    recipes = [path for path in (ROOT / "recipes").rglob("*.toml") if "[requires]" not in path.read_text()]
    assert len(recipes) >= 10
    for path in recipes:
        _, runs = read_sweep(path, registry=registry)
        assert all(run.recipe.notes == () for run in runs)
        assert path.read_text().startswith("#:schema ")


def test_the_original_recipe_has_the_settings_of_the_original_trainer() -> None:
    recipe = read_recipe(ROOT / "recipes/afhq_cat_original.toml", registry=discover(third_party=False).registry())
    assert recipe.backbone.config.model_dump()["linear_attention_levels"] == (0, 1, 2, 3)
    assert recipe.loss.component.use == "l1"
    train = recipe.train
    assert (train.batch_size, train.accumulate, train.ema_decay, train.gradient_clip) == (64, 2, 0, 0)
    assert recipe.data.settings.decoded_shape.height == 35
    assert recipe.metrics[0].config.model_dump()["protocol"] == "original"
