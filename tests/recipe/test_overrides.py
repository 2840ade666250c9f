from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddpmkit.recipe import Recipe
from ddpmkit.recipe.layers import Override, parse_override

Read = Callable[..., Recipe]
Errors = Callable[..., str]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train.steps=200", ("train", "steps"), 200),
        ("train.steps = 1_000", ("train", "steps"), 1000),
        ("train.learning_rate=1e-3", ("train", "learning_rate"), 1e-3),
        ("data.flip=false", ("data", "flip"), False),
        ("schedule.use=linear", ("schedule", "use"), "linear"),
        ('schedule.use="linear"', ("schedule", "use"), "linear"),
        ("schedule.use=acme/zigzag", ("schedule", "use"), "acme/zigzag"),
        ("data.root=../shared/my afhq", ("data", "root"), "../shared/my afhq"),
        ("data.root=a=b#c", ("data", "root"), "a=b#c"),
        ("data.root=C:\\data", ("data", "root"), "C:\\data"),
        ('data.classes=["cat", "dog"]', ("data", "classes"), ["cat", "dog"]),
        ("a={b = 1}", ("a",), {"b": 1}),
        ("metric.0.every=5", ("metric", "0", "every"), 5),
        ('a."b.c"=1', ("a", "b.c"), 1),
        ("train.device=1\nother=2", ("train", "device"), "1\nother=2"),
    ],
)
def test_the_value_is_toml_or_else_the_text_it_is(text: str, key: tuple[str, ...], value: Any) -> None:
    parsed = parse_override(text)
    assert isinstance(parsed, Override)
    assert (parsed.key, parsed.value) == (key, value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train.steps", "not of the form KEY=VALUE"),
        ("=3", "not of the form KEY=VALUE"),
        ("a b=3", "not of the form KEY=VALUE"),
        ("a\nb=3", "not of the form KEY=VALUE"),
        ("name=", "the value is missing"),
        ("data.classes=[cat]", "[cat] is not a TOML value"),
        ('data.root="x', '"x is not a TOML value'),
        ("train.seed=0x10000000000000000", "at most 64 bits"),
        ("data.root=\udcff", "not valid text"),
        ("train.'\udcff'=1", "not valid text"),
        ("a" + ".a" * 60 + "=1", "nested too deeply"),
    ],
)
def test_what_is_no_override_is_explained(text: str, said: str) -> None:
    assert said in parse_override(text).message  # type: ignore[union-attr]


def test_an_override_reaches_into_an_array_of_tables(read: Read) -> None:
    recipe = read(
        '[[metric]]\nuse = "fid"\n[[metric]]\nuse = "fid"\n', "metric.1.every=100", "metric.0.protocol=original"
    )
    assert [part.settings.every for part in recipe.metrics] == [0, 100]
    assert recipe.metrics[0].config.model_dump() == {"protocol": "original"}


def test_the_only_table_of_an_array_needs_no_number(read: Read, errors: Errors) -> None:
    one = '[[metric]]\nuse = "fid"\n'
    recipe = read(one, "metric.every=100", "metric.protocol=original")
    assert recipe.metrics[0].settings.every == 100
    assert recipe.metrics[0].config.model_dump() == {"protocol": "original"}
    assert errors(one + one, "metric.every=100") == (
        "--set metric.every=100: `metric` is a list: set all of it, or a key of one of its tables (metric.0.KEY)\n"
        "  - metric.0 is fid, metric.1 is fid"
    )


def test_an_override_makes_the_section_it_needs(read: Read) -> None:
    assert read("", "train.seed=4").train.seed == 4


def test_a_component_and_its_keys_may_be_set_in_any_order(read: Read) -> None:
    recipe = read("[schedule]\ns = 0.1\n", "schedule.first_beta=0.2", "schedule.use=linear")
    assert recipe.schedule.config.model_dump() == {"first_beta": 0.2}
    assert recipe.notes == (
        "--set schedule.use=linear: [schedule] uses linear instead of cosine; dropped s (mine.toml:2)",
    )


def test_the_last_of_two_overrides_wins(read: Read) -> None:
    assert read("", "train.seed=1", "train.seed=2").train.seed == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("metric.3.every=5", "the recipe has no table `metric.3`"),
        ("schedule.use=1979-05-27", "there is no schedule `1979-05-27`"),
        ("tracker.use=wandb", "`tracker` is a list: set all of it, or a key of one of its tables (tracker.0.KEY)"),
        ("train.steps.x=5", "the recipe has no table `train.steps`"),
        ("tracker.0.use=wandb", "the recipe has no table `tracker.0`"),
        ("extends=base.toml", "`extends` works only in a recipe file"),
        ("train.stps=5", "unknown key `stps` in [train]"),
        ("train.steps=10k", '`steps` in [train] must be an integer of at least 1, but is "10k"'),
    ],
)
def test_an_override_that_fits_nowhere_is_named(errors: Errors, override: str, said: str) -> None:
    text = errors('[train]\nsteps = 1\n[[metric]]\nuse = "fid"\n', override)
    assert text.splitlines()[0] == f"--set {override}: {said}"


def test_an_index_of_thousands_of_digits_is_no_table(errors: Errors) -> None:
    assert "the recipe has no table `metric.999" in errors("", f"metric.{'9' * 5000}.every=1")


def test_all_errors_come_at_once_files_first(errors: Errors, folder: Path) -> None:
    text = errors("[train]\nx = 1\n", "a", "train.y=1")
    places = [line.split(": ")[0] for line in text.splitlines() if "`" in line or "KEY=" in line]
    assert [place for place in places if not place.startswith(" ")] == ["mine.toml:2:1", "--set a", "--set train.y=1"]
    assert text.endswith("3 problems.")
