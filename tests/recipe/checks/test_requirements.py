"""`[requires]`: the packages that must be installed."""

import importlib.metadata

import pytest

from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import RecipeError, read_recipe
from ddpmkit.recipe.diff import differences

DDPMKIT = importlib.metadata.version("ddpmkit")


@pytest.fixture
def read(folder, registry: Registry):  # type: ignore[no-untyped-def]
    def read(*plugins: str):  # type: ignore[no-untyped-def]
        (folder / "mine.toml").write_text(f"[requires]\nplugins = {list(plugins)}\n")
        return read_recipe("mine.toml", registry=registry)

    return read


def test_an_installed_requirement_is_accepted(read) -> None:  # type: ignore[no-untyped-def]
    recipe = read("ddpmkit", f"ddpmkit=={DDPMKIT}", "Pluggy>=1,<99", "acme; python_version < '3'")
    assert recipe.requires.plugins[1] == f"ddpmkit=={DDPMKIT}"


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [
        ("ddpmkit-acme>=1.2", "the recipe requires ddpmkit-acme>=1.2, which is not installed"),
        ("ddpmkit>=99", f"the recipe requires ddpmkit>=99, but ddpmkit {DDPMKIT} is installed"),
        ("ddpmkit >", "'ddpmkit >' in [requires] is not a package with a version"),
    ],
)
def test_an_unmet_requirement_names_its_place_and_a_command(read, plugin: str, expected: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RecipeError) as caught:
        read("numpy", plugin)
    (problem,) = caught.value.problems
    assert problem.message == expected
    assert "mine.toml:2:21:" in str(caught.value)
    assert "pip" in problem.hints[0]


@pytest.mark.parametrize("name", ["ddpmkit-acme", "ddpmkit_acme", "DDPMKIT.Acme"])
def test_a_package_outside_the_index_is_installed_from_its_source(folder, registry: Registry, name: str) -> None:  # type: ignore[no-untyped-def]
    requires = {"plugins": ["ddpmkit-acme>=1.2"], "sources": {name: "./plugins/my acme"}}
    with pytest.raises(RecipeError) as caught:
        read_recipe({"requires": requires}, registry=registry)
    assert caught.value.problems[0].hints == ("pip install './plugins/my acme'",)


def test_a_lock_contains_requirements_and_a_resume_ignores_them(read, registry: Registry) -> None:  # type: ignore[no-untyped-def]
    recipe, other = read("ddpmkit"), read()
    assert read_recipe(recipe.as_data(), registry=registry) == recipe
    assert "requires" not in other.as_data()
    assert not any(change.affects_model for change in differences(recipe.as_data(), other.as_data()))
