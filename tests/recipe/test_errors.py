"""The texts of errors, held in `golden/`: each recipe there, and what is said of it."""

from pathlib import Path

import pytest

from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import RecipeError, read_recipe

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("stem", sorted(path.stem for path in GOLDEN.glob("*.toml")))
def test_the_text_is_the_golden_one(stem: str, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    with pytest.raises(RecipeError) as caught:
        read_recipe(f"{stem}.toml", registry=registry)
    assert f"{caught.value}\n" == (GOLDEN / f"{stem}.txt").read_text()


def test_problems_are_data_too(registry: Registry) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(GOLDEN / "do_not_fit.toml", registry=registry)
    first, second = caught.value.problems
    assert (first.span.line, second.span.line, second.span.column) == (9, 12, 9)  # type: ignore[union-attr]
    assert second.message == "`steps` in [sampler] is 51, but diffusion.timesteps is 50"
    assert caught.value.exit_code == 2


def test_a_component_that_is_missing_by_default_is_blamed_on_the_file(folder: Path) -> None:
    (folder / "empty.toml").write_text("")
    with pytest.raises(RecipeError, match=r"empty.toml: there is no dataset `critters`"):
        read_recipe("empty.toml", registry=Registry.from_components([]))
    with pytest.raises(RecipeError, match=r"the given recipe: there is no dataset `critters`"):
        read_recipe({}, registry=Registry.from_components([]))
