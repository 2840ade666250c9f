import subprocess
import sys
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddpmkit.contracts import ImageShape
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import Recipe, RecipeError, read_recipe

FULL = """
name = "full"
[data]
use = "ddpmkit/image-folder"
root = "a/b"
image_size = [24, 40]
channels = 1
classes = ["cat", "dog"]
crop_margin = 1.12
[diffusion]
timesteps = 20
prediction = "v"
[schedule]
use = "zero-snr"
[backbone]
dim = 32
middle = { width = 3 }
[sampler]
steps = 10
[train]
betas = [0.5, 0.9]
[[metric]]
use = "fid"
num_samples = 100
[[metric]]
use = "fid"
protocol = "original"
[[tracker]]
use = "wandb"
"""


def test_an_empty_recipe_is_the_defaults(registry: Registry) -> None:
    recipe = read_recipe({}, registry=registry)
    used = [part.component.use for part in recipe.parts]
    assert used == ["critters", "cosine", "attention-unet", "l1", "ancestral"]
    assert recipe.data.settings.image_shape == recipe.data.settings.decoded_shape == ImageShape(3, 32, 32)
    assert (recipe.name, recipe.metrics, recipe.trackers, recipe.notes) == ("recipe", (), (), ())


@pytest.mark.parametrize("text", ["", FULL])
def test_the_resolved_recipe_reads_back_equal(text: str, registry: Registry) -> None:
    recipe = read_recipe(tomllib.loads(text), registry=registry)
    assert tomllib.loads(recipe.to_toml()) == recipe.as_data()
    assert read_recipe(recipe.as_data(), registry=registry) == recipe
    assert read_recipe(tomllib.loads(recipe.to_toml()), registry=registry).as_data() == recipe.as_data()


def test_what_the_recipe_says_is_what_the_parts_get(registry: Registry) -> None:
    recipe = read_recipe(tomllib.loads(FULL), registry=registry)
    assert recipe.data.settings.image_shape == ImageShape(1, 24, 40)
    assert recipe.data.settings.decoded_shape == ImageShape(1, 26, 44)  # 26.88 and 44.8, rounded down
    assert recipe.data.settings.use == "image-folder"
    built = recipe.backbone.build(image_shape=recipe.data.settings.image_shape, num_classes=0, out_channels=1)
    assert built.config.model_dump() == {
        "dim": 32,
        "multipliers": (1, 2),
        "groups": 8,
        "middle": {"width": 3, "heads": 4},
    }
    assert built.runtime["out_channels"] == 1
    assert [part.settings.num_samples for part in recipe.metrics] == [100, None]


def test_a_need_is_met_by_any_of_its_alternatives(registry: Registry) -> None:
    for prediction in ("x0", "v"):
        read_recipe({"diffusion": {"prediction": prediction}, "schedule": {"use": "zero-snr"}}, registry=registry)
    read_recipe({"backbone": {"use": "transformer"}, "loss": {"use": "token-loss"}}, registry=registry)


def test_whole_numbers_pass_for_numbers_but_not_the_reverse(registry: Registry) -> None:
    assert read_recipe({"train": {"learning_rate": 1}}, registry=registry).train.learning_rate == 1.0
    for value in (1.0, True, "1"):
        with pytest.raises(RecipeError, match="must be an integer"):
            read_recipe({"train": {"steps": value}}, registry=registry)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\nb", "x" * 201])
def test_a_name_must_name_a_folder(name: str, registry: Registry) -> None:
    with pytest.raises(RecipeError, match="`name` in the recipe"):
        read_recipe({"name": name}, registry=registry)


def attempt(read: Callable[..., Recipe], *args: Any, **kwargs: Any) -> Recipe | RecipeError:
    try:
        return read(*args, **kwargs)
    except RecipeError as error:
        return error


words = st.sampled_from(
    [
        "use",
        "steps",
        "classes",
        "image_size",
        "betas",
        "middle",
        "width",
        "root",
        "every",
        "name",
        "extends",
        "lock",
        "é x",
    ]
)
sections = st.sampled_from(
    ["data", "diffusion", "schedule", "backbone", "sampler", "train", "metric", "tracker", "name", "extends", "other"]
)
uses = st.sampled_from(["image-folder", "linear", "brittle", "lost", "greedy", "fid", "acme/x", "", "/"])
plain = st.one_of(
    uses, st.text(max_size=4), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.dates(), st.none()
)
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(sections, values | st.lists(st.dictionaries(words, values, max_size=3), max_size=2), max_size=5))
def test_no_data_does_worse_than_an_error(registry: Registry, data: dict[str, Any]) -> None:
    outcome = attempt(read_recipe, data, registry=registry)
    if isinstance(outcome, Recipe):
        assert read_recipe(outcome.as_data(), registry=registry) == outcome
    else:
        assert outcome.problems


toml_like = st.lists(
    st.sampled_from(
        ["[data]", "[[metric]]", "[train]", "\n", "use", "=", '"fid"', "steps", " ", "1", "{", "}", "[", "]", ",",
         '"""', "'", "#", ".", "é", "\t", "\r\n", "\x00", "0x", "1979-05-27", "true", "extends",
         '"x.toml"', "nan", "\\"]
    ),
    max_size=30,
).map("".join)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(toml_like | st.text(), st.lists(toml_like | st.text(), max_size=2))
def test_no_text_does_worse_than_an_error(read: Callable[..., Recipe], text: str, overrides: list[str]) -> None:
    assert str(attempt(read, text, *overrides))


def test_reading_and_failing_import_no_torch() -> None:
    script = (
        "import sys\n"
        "from ddpmkit.recipe import RecipeError, read_recipe, schema_text\n"
        "from ddpmkit.plugin.discovery import discover\n"
        "registry = discover(third_party=False).registry()\n"
        "try:\n"
        "    read_recipe({'train': {'stps': 1}, 'schedule': {'use': 'linea'}}, registry=registry)\n"
        "except RecipeError as error:\n"
        "    assert len(error.problems) >= 2, error\n"
        "recipe = read_recipe({'data': {'use': 'image-folder', 'root': 'x'}}, registry=registry)\n"
        "recipe.to_toml(), schema_text(registry)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
