import subprocess
import sys
import tomllib

import pytest

from ddpmkit.contracts import ImageShape
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import DataSection, RecipeError, read_recipe

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


def test_an_empty_recipe_has_all_defaults(registry: Registry) -> None:
    recipe = read_recipe({}, registry=registry)
    used = [part.component.use for part in recipe.parts]
    assert used == ["critters", "cosine", "attention-unet", "l1", "ancestral"]
    assert recipe.data.settings.image_shape == recipe.data.settings.decoded_shape == ImageShape(3, 32, 32)
    assert (recipe.name, recipe.metrics, recipe.trackers, recipe.notes) == ("recipe", (), (), ())


@pytest.mark.parametrize("text", ["", FULL])
def test_a_resolved_recipe_is_equal_after_writing_and_reading(text: str, registry: Registry) -> None:
    recipe = read_recipe(tomllib.loads(text), registry=registry)
    assert tomllib.loads(recipe.to_toml()) == recipe.as_data()
    assert read_recipe(recipe.as_data(), registry=registry) == recipe
    assert read_recipe(tomllib.loads(recipe.to_toml()), registry=registry).as_data() == recipe.as_data()


def test_the_margin_of_a_crop_is_rounded_down_from_the_exact_product() -> None:
    assert DataSection(image_size=50, crop_margin=1.14).decoded_shape == ImageShape(3, 57, 57)  # in binary 56.99...
    assert DataSection(image_size=(32, 100), crop_margin=1.12).decoded_shape == ImageShape(3, 35, 112)
    for percent in range(100, 401):
        for side in (8, 28, 50, 100, 256):
            found = DataSection(image_size=side, crop_margin=percent / 100).decoded_shape.height
            assert found == side * percent // 100, (side, percent)


def test_components_receive_their_keys(registry: Registry) -> None:
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


def test_an_integer_is_accepted_as_a_number_but_not_the_reverse(registry: Registry) -> None:
    assert read_recipe({"train": {"learning_rate": 1}}, registry=registry).train.learning_rate == 1.0
    for value in (1.0, True, "1"):
        with pytest.raises(RecipeError, match="must be an integer"):
            read_recipe({"train": {"steps": value}}, registry=registry)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\nb", "x" * 201])
def test_a_name_must_be_valid_for_a_folder(name: str, registry: Registry) -> None:
    with pytest.raises(RecipeError, match="`name` in the recipe"):
        read_recipe({"name": name}, registry=registry)


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


def test_labels_need_a_list_of_classes(registry: Registry) -> None:
    with pytest.raises(RecipeError, match="must be false unless `classes` lists the classes"):
        read_recipe({"data": {"labels": True}}, registry=registry)
    recipe = read_recipe({"data": {"labels": True, "classes": ["cat", "dog"]}}, registry=registry)
    assert recipe.data.settings.num_classes == 2
    assert read_recipe({"data": {"classes": ["cat"]}}, registry=registry).data.settings.num_classes == 0


def test_zero_terminal_snr_needs_another_prediction_than_eps(registry: Registry) -> None:
    with pytest.raises(RecipeError, match="x0 cannot be recovered from eps"):
        read_recipe({"diffusion": {"zero_terminal_snr": True}}, registry=registry)
    read_recipe({"diffusion": {"zero_terminal_snr": True, "prediction": "v"}}, registry=registry)


@pytest.mark.parametrize(
    ("weights", "written"),
    [("ema", "ema"), ("raw", "raw"), ("decay=0.90", "decay=0.9"), ("sigma_rel=.2", "sigma_rel=0.2")],
)
def test_weights_have_one_canonical_form(weights: str, written: str, registry: Registry) -> None:
    keys = {"train": {"ema_decays": [0.9], "ema_sigma_rels": [0.05]}, "sampler": {"weights": weights}}
    assert read_recipe(keys, registry=registry).sampler.settings.weights == written


def test_invalid_weights_and_averages_that_training_does_not_keep_are_rejected(registry: Registry) -> None:
    with pytest.raises(RecipeError, match=r'`weights` in \[sampler\] must be "ema", "raw".*, but is "best"'):
        read_recipe({"sampler": {"weights": "best"}}, registry=registry)
    with pytest.raises(RecipeError, match=r"stores no such average\n.*add 0.9 to train.ema_decays"):
        read_recipe({"sampler": {"weights": "decay=0.9"}}, registry=registry)
    with pytest.raises(RecipeError, match=r"set train\.ema_sigma_rels"):
        read_recipe({"sampler": {"weights": "sigma_rel=0.1"}}, registry=registry)
    read_recipe({"sampler": {"weights": "decay=0.995"}}, registry=registry)


def test_an_average_is_listed_once(registry: Registry) -> None:
    for keys in ({"ema_decays": [0.995]}, {"ema_decays": [0.9, 0.9]}, {"ema_sigma_rels": [0.1, 0.1]}):
        with pytest.raises(RecipeError, match=r"must not list a (class|value) twice"):
            read_recipe({"train": keys}, registry=registry)
