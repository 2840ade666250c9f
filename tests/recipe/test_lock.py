import importlib.metadata
import platform
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ddpmkit.errors import InputError
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.loader import BrokenPlugin
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import Recipe, RecipeError, current_provenance, lock_text, read_lock, read_recipe


@pytest.fixture
def lock(read: Callable[..., Recipe], folder: Path) -> Path:
    recipe = read('[data]\nuse = "image-folder"\nroot = "r"\n[[metric]]\nuse = "fid"\nevery = 3\n')
    (folder / "recipe.lock.toml").write_text(lock_text(recipe, current_provenance(recipe, "abc123")))
    return folder / "recipe.lock.toml"


def test_a_lock_contains_the_recipe_and_its_provenance(lock: Path, registry: Registry) -> None:
    found = read_lock(lock, registry)
    assert found.recipe == read_recipe("mine.toml", registry=registry)
    assert found.provenance.dataset_fingerprint == "abc123"
    assert found.provenance.distributions == {"unpackaged": "0"}
    assert found.provenance.versions == {
        "python": platform.python_version(),
        "ddpmkit": importlib.metadata.version("ddpmkit"),
        "torch": importlib.metadata.version("torch"),
    }


def test_a_lock_can_be_run_like_a_recipe(lock: Path, registry: Registry) -> None:
    recipe = read_recipe(lock, overrides=["train.steps=5"], registry=registry)
    assert (recipe.name, recipe.train.steps, recipe.metrics[0].settings.every) == ("mine", 5, 3)


def test_a_lock_contains_every_default(lock: Path) -> None:
    data = tomllib.loads(lock.read_text())
    assert data["train"]["ema_decay"] == 0.995
    assert data["backbone"] == {
        "use": "attention-unet", "dim": 16, "multipliers": [1, 2], "groups": 8, "middle": {"width": 1, "heads": 4}
    }  # fmt: skip


def test_a_plain_recipe_is_not_a_lock(folder: Path, registry: Registry) -> None:
    (folder / "plain.toml").write_text("")
    with pytest.raises(InputError, match=r"plain.toml is not a lock file: it has no complete \[lock\] table"):
        read_lock(folder / "plain.toml", registry)


def test_a_missing_component_of_a_lock_is_reported_at_its_place(lock: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe.lock.toml:\d+:7: there is no metric `fid`"):
        read_lock(lock, Registry.from_components([]))


class Power(ComponentConfig):
    power: float = 2.0


class Depth(ComponentConfig):
    depth: float = 0.5


def zigzag(config: type[ComponentConfig], plugin: FoundPlugin) -> Registry:
    """A schedule of a third party, and the built-in components that a recipe has by default."""
    reference = f"{__name__}:{config.__name__}"
    zigzag = Component(kind="schedule", name="zigzag", target="a:B", summary="", config=reference)
    others = [
        RegisteredComponent(Component(kind=kind, name=name, target="a:B", summary=""), BUILT_IN) for kind, name in REST
    ]
    return Registry.from_components([RegisteredComponent(zigzag, plugin), *others])


REST = (("dataset", "critters"), ("backbone", "attention-unet"), ("loss", "l1"), ("sampler", "ancestral"))
BUILT_IN = FoundPlugin("ddpmkit.all", "", "ddpmkit", "0.1")
INSTALLED = FoundPlugin("acme.zigzag", "acme", "ddpmkit-acme", "1.2")
FILE = FoundPlugin("local.zigzag", "ddpmkit_local_a", "zigzag.py", "sha256:a", Path("zigzag.py"))


@pytest.mark.parametrize(
    ("then", "now", "why", "hint"),
    [
        (INSTALLED, replace(INSTALLED, version="1.3"), "ddpmkit-acme 1.2 then, 1.3", "pip install ddpmkit-acme==1.2"),
        (INSTALLED, INSTALLED, "ddpmkit-acme 1.2 then and now, so it was changed", "restore ddpmkit-acme"),
        (FILE, replace(FILE, version="sha256:b"), "zigzag.py sha256:a then, sha256:b now", "restore zigzag.py"),
    ],
)  # fmt: skip
def test_a_lock_whose_component_changed_names_both_versions_and_how_to_start_another_run(
    folder: Path, then: FoundPlugin, now: FoundPlugin, why: str, hint: str
) -> None:
    use = f"{then.namespace}/zigzag"
    recipe = read_recipe({"schedule": {"use": use, "power": 3.0}}, registry=zigzag(Power, then))
    Path("recipe.lock.toml").write_text(lock_text(recipe, current_provenance(recipe, "abc123")))
    with pytest.raises(RecipeError) as caught:
        read_lock(Path("recipe.lock.toml"), zigzag(Depth, now))
    assert "unknown key `power` in [schedule]" in str(caught.value)
    assert f"made with another version of schedule `{use}`: {why}" in caught.value.message
    assert caught.value.remedies[0] == "run `ddpmkit run RECIPE --out DIR` to start another run"
    assert caught.value.remedies[1].startswith(hint)


def test_a_misspelled_override_of_a_lock_is_not_blamed_on_its_plugins(folder: Path) -> None:
    recipe = read_recipe({"schedule": {"use": "acme/zigzag"}}, registry=zigzag(Power, INSTALLED))
    Path("recipe.lock.toml").write_text(lock_text(recipe, current_provenance(recipe, "abc123")))
    with pytest.raises(RecipeError) as caught:
        read_recipe("recipe.lock.toml", overrides=["schedule.powr=1"], registry=zigzag(Power, INSTALLED))
    assert "another version" not in str(caught.value)


@pytest.mark.parametrize(
    ("then", "now", "hints"),
    [
        (FILE, [], ["add --plugin zigzag.py to load the file that the run was made with"]),
        (FILE, [replace(FILE, version="sha256:b")], ["the run was made with another version: zigzag.py sha256:a then"]),
        (INSTALLED, [], ["run `pip install ddpmkit-acme==1.2` to install what the run was made with"]),
        (
            INSTALLED,
            [replace(INSTALLED, version="2")],
            ["the run was made with another version", "pip install ddpmkit"],
        ),
        (INSTALLED, [INSTALLED], ["the run was made with another version: ddpmkit-acme 1.2 then and now", "restore "]),
    ],
)
def test_a_missing_component_of_a_lock_names_its_package(
    folder: Path, then: FoundPlugin, now: list[FoundPlugin], hints: list[str]
) -> None:
    use = f"{then.namespace}/zigzag"
    recipe = read_recipe({"schedule": {"use": use}}, registry=zigzag(Power, then))
    Path("recipe.lock.toml").write_text(lock_text(recipe, current_provenance(recipe, "abc123")))
    broken = [BrokenPlugin(plugin, "it offers nothing") for plugin in now]
    others = [entry for kind, _ in REST for entry in zigzag(Power, then).of_kind(kind)]
    with pytest.raises(RecipeError) as caught:
        read_lock(Path("recipe.lock.toml"), Registry.from_components(others, broken=broken))
    (problem,) = caught.value.problems
    assert problem.message == f"there is no schedule `{use}`"
    shown = problem.hints[: len(hints)]
    assert [hint[: len(start)] for hint, start in zip(shown, hints, strict=True)] == hints
    assert any(hint.startswith("available") for hint in problem.hints)
