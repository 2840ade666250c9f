"""The error texts: `golden/` contains recipes, each with its exact error text."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, Field, PlainValidator
from pydantic_core import PydanticKnownError

from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import RecipeError, read_recipe

GOLDEN = Path(__file__).parent / "golden"


class Inner(BaseModel):
    width: int | None = None


class OddConfig(ComponentConfig):
    """Fields that have no form in TOML or in a JSON schema."""

    secret: Literal["a", None] = None
    shout: Annotated[Any, PlainValidator(lambda value: OddConfig.text(value)), Field(default=None)]
    wrapped: Annotated[int, BeforeValidator(lambda value: object())] = 1
    level: Inner | Annotated[int, Field(le=3)] = Inner()

    @staticmethod
    def text(value: Any) -> str:
        if not isinstance(value, str):
            raise PydanticKnownError("string_type")
        return value


class Wave(BaseModel):
    width: int = Field(default=0, ge=1)


class OutOfRangeConfig(ComponentConfig):
    """pydantic accepts all of these defaults; only `folder` is valid."""

    depth: float = Field(default=3.0, ge=0, lt=1)
    wave: Wave = Wave()
    levels: tuple[Annotated[int, Field(ge=1)], ...] = (1, 0)
    folder: Path = Path("waves")


class RunawayConfig(ComponentConfig):
    power: Annotated[float, Field(le=3), BeforeValidator(lambda value: 2 * value)] = 1.0


@pytest.mark.parametrize("stem", sorted(path.stem for path in GOLDEN.glob("*.toml")))
def test_the_error_text_equals_the_golden_file(stem: str, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    with pytest.raises(RecipeError) as caught:
        read_recipe(f"{stem}.toml", registry=registry)
    assert f"{caught.value}\n" == (GOLDEN / f"{stem}.txt").read_text()


def test_problems_are_available_as_data(registry: Registry) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(GOLDEN / "do_not_fit.toml", registry=registry)
    first, second = caught.value.problems
    assert (first.span.line, second.span.line, second.span.column) == (9, 12, 9)  # type: ignore[union-attr]
    assert second.message == "`steps` in [sampler] is 51, but diffusion.timesteps is 50"
    assert caught.value.exit_code == 2


def test_a_missing_default_component_is_reported_for_the_file(folder: Path) -> None:
    (folder / "empty.toml").write_text("")
    with pytest.raises(RecipeError, match=r"empty.toml: there is no dataset `critters`"):
        read_recipe("empty.toml", registry=Registry.from_components([]))
    with pytest.raises(RecipeError, match=r"the given recipe: there is no dataset `critters`"):
        read_recipe({}, registry=Registry.from_components([]))


def test_the_first_of_many_problems_are_shown(registry: Registry) -> None:
    tables = {name: {f"k{number}": 1 for number in range(200)} for name in ("train", "diffusion")}
    with pytest.raises(RecipeError) as caught:
        read_recipe(tables, registry=registry)
    assert str(caught.value).count("unknown key") == 100
    assert str(caught.value).endswith("\n\n200 problems, the first 100 of them above.")


def test_a_long_text_is_shortened_in_the_middle(registry: Registry) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe({"train": {"x" * 100_000: 1}}, registry=registry)
    first = str(caught.value).splitlines()[0]
    assert first.startswith("the given recipe: unknown key `xxx")
    assert first.endswith("xxx` in [train]")
    assert len(first) < 1000


def test_a_field_without_a_description_is_still_explained(registry: Registry) -> None:
    odd = Component("loss", "odd", target="x:Y", summary="", config=f"{__name__}:OddConfig")
    everything = [entry for kind in registry.components.values() for entry in kind.values()]
    mine = Registry.from_components([*everything, odd])
    data = {"loss": {"use": "local/odd", "secret": 1, "shout": 2, "level": 4, "shot": 5}}
    with pytest.raises(RecipeError) as caught:
        read_recipe(data, registry=mine)
    first, second, third, fourth = (problem.message for problem in caught.value.problems)
    assert first == '`secret` in [loss] must be "a", but is 1'
    assert second == "`shout` in [loss]: Input should be a valid string"
    assert third == "`level` in [loss] must be a table or an integer of at most 3, but is 4"
    assert fourth == "unknown key `shot` in [loss]"
    assert "did you mean `shout`?" in str(caught.value)


def with_schedule(registry: Registry, name: str, config: type[ComponentConfig], *, editable: bool = False) -> Registry:
    found = FoundPlugin("acme.wave", "ddpmkit_acme", "ddpmkit-acme", "1.2", editable=editable)
    declared = Component("schedule", name, target="x:Y", summary="", config=f"{__name__}:{config.__name__}")
    everything = [entry for kind in registry.components.values() for entry in kind.values()]
    return Registry.from_components([*everything, RegisteredComponent(declared, found)])


def test_a_default_outside_its_own_range_is_an_error(registry: Registry) -> None:
    mine = with_schedule(registry, "wave", OutOfRangeConfig)
    with pytest.raises(RecipeError) as caught:
        read_recipe({"schedule": {"use": "acme/wave"}}, registry=mine)
    depth, wave, levels = caught.value.problems
    assert depth.message == (
        "schedule `acme/wave`: the default of `depth` must be a number of at least 0 and below 1, but is 3.0"
    )
    assert depth.hints == (
        "report it to the authors of ddpmkit-acme 1.2, which provides it",
        "until then, set `depth` in [schedule]",
    )
    assert "the default of `wave.width` must be an integer of at least 1, but is 0" in wave.message
    assert "the default of `levels` must be a list of integers of at least 1, but contains 0" in levels.message


def test_a_wrong_default_in_an_editable_plugin_names_its_source(registry: Registry) -> None:
    mine = with_schedule(registry, "wave", OutOfRangeConfig, editable=True)
    with pytest.raises(RecipeError) as caught:
        read_recipe({"schedule": {"use": "acme/wave"}}, registry=mine)
    assert caught.value.problems[0].hints[0] == "fix ddpmkit_acme"


def test_a_wrong_default_that_is_not_used_is_not_an_error(registry: Registry) -> None:
    mine = with_schedule(registry, "wave", OutOfRangeConfig)
    given = {"use": "acme/wave", "depth": 0.5, "wave": {"width": 2}, "levels": [1]}
    recipe = read_recipe({"schedule": given}, registry=mine)
    assert read_recipe(recipe.as_data(), registry=mine) == recipe


def test_a_value_that_its_validator_moves_out_of_range_is_an_error(registry: Registry) -> None:
    mine = with_schedule(registry, "runaway", RunawayConfig)
    with pytest.raises(RecipeError) as caught:
        read_recipe({"schedule": {"use": "acme/runaway", "power": 1.5}}, registry=mine)
    assert "schedule `acme/runaway`: `power`, written and read again, must be a number of at most 3" in str(
        caught.value
    )


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps", "xpu:0"])
def test_a_device_of_torch_is_accepted(device: str, registry: Registry) -> None:
    assert read_recipe({"train": {"device": device}}, registry=registry).train.device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:01", "cpu:1", "CUDA"])
def test_a_word_that_is_not_a_device_is_rejected_with_the_known_ones(device: str, registry: Registry) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe({"train": {"device": device}}, registry=registry)
    assert caught.value.problems[0].message == (
        f'`device` in [train] must be "auto", "cpu", "cuda", "cuda:1" (the second GPU) or "mps", but is "{device}"'
    )


@pytest.mark.parametrize(
    ("table", "name", "hint"),
    [
        ("train", "lr", "did you mean `learning_rate`, a number above 0 (default 0.001)?"),
        ("train", "bs", "did you mean `batch_size`, an integer of at least 1 (default 32)?"),
        ("train", "epochs", "did you mean `steps`, an integer of at least 1 (default 10_000)?"),
        ("sampler", "cfg_scale", "did you mean `guidance`, a number of at least 0 (default 1.0)?"),
        ("backbone", "lr", "`learning_rate` is a key of [train]"),
    ],
)
def test_a_key_of_other_programs_is_recognized(table: str, name: str, hint: str, registry: Registry) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe({table: {name: 1}}, registry=registry)
    assert caught.value.problems[0].hints[0] == hint


def test_contradictions_between_keys_are_shown_together_with_wrong_values(registry: Registry) -> None:
    recipe = {"diffusion": {"timesteps": "50"}, "sampler": {"guidance": 2.0}, "train": {"keep_best": "fid"}}
    with pytest.raises(RecipeError) as caught:
        read_recipe(recipe, registry=registry)
    assert [problem.message[:25] for problem in caught.value.problems] == [
        "`timesteps` in [diffusion",
        "`guidance` in [sampler] i",
        "`keep_best` in [train] is",
    ]


def test_a_warmup_longer_than_training_is_noted(registry: Registry) -> None:
    recipe = read_recipe({"train": {"warmup_steps": 50, "steps": 20}}, registry=registry)
    assert recipe.notes == (
        "the given recipe: `warmup_steps` in [train] is 50, but steps is 20: training ends before the learning rate "
        "reaches 0.001",
    )
    assert read_recipe({"train": {"warmup_steps": 50, "steps": 50}}, registry=registry).notes == ()
