import importlib.metadata
import platform
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from ddpmkit.errors import InputError
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import Recipe, RecipeError, lock_text, read_lock, read_recipe


@pytest.fixture
def lock(read: Callable[..., Recipe], folder: Path) -> Path:
    recipe = read('[data]\nuse = "image-folder"\nroot = "r"\n[[metric]]\nuse = "fid"\nevery = 3\n')
    (folder / "recipe.lock.toml").write_text(lock_text(recipe, "abc123"))
    return folder / "recipe.lock.toml"


def test_a_lock_gives_back_the_recipe_and_what_it_ran_with(lock: Path, registry: Registry) -> None:
    found = read_lock(lock, registry)
    assert found.recipe == read_recipe("mine.toml", registry=registry)
    assert found.dataset_fingerprint == "abc123"
    assert found.distributions == {"unpackaged": "0"}
    assert found.versions == {
        "python": platform.python_version(),
        "ddpmkit": importlib.metadata.version("ddpmkit"),
        "torch": importlib.metadata.version("torch"),
    }


def test_a_lock_can_be_run_like_a_recipe(lock: Path, registry: Registry) -> None:
    recipe = read_recipe(lock, overrides=["train.steps=5"], registry=registry)
    assert (recipe.name, recipe.train.steps, recipe.metrics[0].settings.every) == ("mine", 5, 3)


def test_a_lock_states_every_default(lock: Path) -> None:
    data = tomllib.loads(lock.read_text())
    assert data["train"]["ema_decay"] == 0.995
    assert data["backbone"] == {
        "use": "attention-unet", "dim": 16, "multipliers": [1, 2], "groups": 8, "middle": {"width": 1, "heads": 4}
    }  # fmt: skip


def test_a_plain_recipe_is_no_lock(folder: Path, registry: Registry) -> None:
    (folder / "plain.toml").write_text("")
    with pytest.raises(InputError, match=r"plain.toml is no lock file: it has no complete \[lock\] table"):
        read_lock(folder / "plain.toml", registry)


def test_a_lock_whose_component_is_gone_says_so_at_its_place(lock: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe.lock.toml:\d+:7: there is no metric `fid`"):
        read_lock(lock, Registry.from_components([]))
