"""`extends` and `--set`: how the layers of a recipe are merged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import Recipe, read_recipe
from ddpmkit.recipe.layers import Override, merge_layers, parse_override
from ddpmkit.recipe.toml_file import Layer

Read = Callable[..., Recipe]
Errors = Callable[..., str]

FOLDER = '[data]\nuse = "image-folder"\nroot = "images"\non_bad_image = "skip"\nflip = false\n'


def test_tables_merge_and_arrays_replace(read: Read) -> None:
    base = (
        '[train]\nsteps = 100\nbatch_size = 8\n[data]\nclasses = ["a", "b"]\n'
        '[[metric]]\nuse = "fid"\nevery = 5\n[[metric]]\nuse = "fid"\n'
    )
    recipe = read(
        'extends = "base.toml"\n[train]\nsteps = 7\n[data]\nclasses = ["c"]\n[[metric]]\nuse = "fid"\n', base=base
    )
    assert (recipe.train.steps, recipe.train.batch_size) == (7, 8)
    assert recipe.data.settings.classes == ("c",)
    assert [part.settings.every for part in recipe.metrics] == [0]


def test_extends_is_relative_to_the_file_that_contains_it(folder: Path, registry: Registry) -> None:
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "sub" / "deep" / "root.toml").write_text("[train]\nsteps = 3\nseed = 5\n")
    (folder / "sub" / "middle.toml").write_text('extends = "deep/root.toml"\n[train]\nsteps = 4\n')
    (folder / "top.toml").write_text('extends = "sub/middle.toml"\n')
    recipe = read_recipe(folder / "top.toml", registry=registry)
    assert (recipe.train.steps, recipe.train.seed) == (4, 5)
    from_data = read_recipe({"extends": "sub/middle.toml"}, registry=registry)
    assert from_data == read_recipe({"extends": "sub/middle.toml", "name": "recipe"}, registry=registry)
    assert from_data.train == recipe.train


def test_the_default_name_is_that_of_the_file_and_is_not_inherited(read: Read, registry: Registry) -> None:
    assert read('extends = "base.toml"\n', base='name = "other"\n').name == "mine"
    assert read('name = "my run"\n').name == "my run"
    assert read_recipe("mine.toml", registry=registry, overrides=["name=third"]).name == "third"
    assert read_recipe({}, registry=registry, name="given").name == "given"


def test_a_file_may_be_extended_twice_but_not_in_a_circle(read: Read, errors: Errors) -> None:
    loop = errors('extends = "a.toml"\n', a='\nextends = "b.toml"\n', b='extends = "./mine.toml"\n')
    assert loop == (
        "b.toml:1:11: `extends` forms a circle\n"
        '     1 | extends = "./mine.toml"\n'
        "       |           ^^^^^^^^^^^^^\n"
        "  - mine.toml -> a.toml -> b.toml -> mine.toml"
    )
    assert "mine.toml -> mine.toml" in errors('extends = "mine.toml"\n')


def test_a_missing_base_is_reported_at_extends(errors: Errors, folder: Path) -> None:
    assert errors('extends = "bass.toml"\n', base="") == (
        "mine.toml:1:11: `extends` names bass.toml: there is no such file\n"
        '     1 | extends = "bass.toml"\n'
        "       |           ^^^^^^^^^^^\n"
        "  - did you mean base.toml?\n"
        f"  - recipes in {folder.resolve()}: base.toml, mine.toml"
    )
    assert "must be the name of a recipe file" in errors("extends = 3\n")


def test_another_component_drops_the_keys_of_the_former_one_with_a_note(read: Read) -> None:
    recipe = read('extends = "base.toml"\n[data]\nuse = "critters"\n', base=FOLDER)
    assert recipe.data.component.use == "critters"
    assert recipe.data.settings.flip is False  # the core's own key stays
    assert {key[1:] for key in recipe.origins if key[0] == "data"} == {(), ("use",), ("flip",)}
    assert recipe.notes == (
        "mine.toml:3: [data] uses critters instead of image-folder; "
        "dropped root (base.toml:3), on_bad_image (base.toml:4)",
    )


def test_another_component_than_the_default_drops_keys_too(read: Read) -> None:
    recipe = read('extends = "base.toml"\n[schedule]\nfirst_beta = 0.1\nuse = "linear"\n', base="[schedule]\ns = 0.1\n")
    assert recipe.schedule.config.model_dump() == {"first_beta": 0.1}
    assert recipe.notes[0].endswith("[schedule] uses linear instead of cosine; dropped s (base.toml:2)")


def test_the_full_name_of_the_same_component_drops_nothing(read: Read) -> None:
    recipe = read('extends = "base.toml"\n[schedule]\nuse = "ddpmkit/cosine"\n', base="[schedule]\ns = 0.1\n")
    assert recipe.schedule.config.model_dump()["s"] == 0.1
    assert recipe.notes == ()


def test_every_value_has_its_origin(read: Read) -> None:
    recipe = read(
        'extends = "base.toml"\n[train]\nseed = 3\n',
        "train.warmup_steps=9",
        base='[train]\nsteps = 2\nseed = 1\n[[metric]]\nuse = "fid"\n',
    )
    origins = {key: str(origin) for key, origin in recipe.origins.items()}
    assert origins["train", "steps"] == "base.toml:2"
    assert origins["train", "seed"] == "mine.toml:3"
    assert origins["train", "warmup_steps"] == "--set train.warmup_steps=9"
    assert origins["metric", 0, "use"] == "base.toml:5"
    assert ("train", "batch_size") not in origins


def test_a_note_contains_no_control_characters(read: Read) -> None:
    base = f'[schedule]\nuse = "\\u001b[31m"\n"\\u009b2J\\n" = 1\n{"x" * 5000} = 1\n'
    (note,) = read('extends = "base.toml"\n[schedule]\nuse = "linear"\n', base=base).notes
    assert note.startswith(
        "mine.toml:3: [schedule] uses linear instead of \ufffd[31m; dropped \ufffd2J  (base.toml:3), "
    )
    assert len(note) < 1000


@pytest.mark.parametrize("value", ['["x"]', "[]", "{a = 1}"])
def test_a_replaced_array_leaves_no_origins(value: str) -> None:
    tree = merge_layers([Layer("base", {"data": {"classes": ["a", "b"]}})], [f"data.classes={value}"])
    assert ("data", "classes", 1) not in tree.origins


@pytest.mark.parametrize("extends", ["a\\u0000b", "~nobody/x.toml", "/", ".", "x" * 300])
def test_an_unusual_name_of_a_base_is_an_error_at_extends(errors: Errors, extends: str) -> None:
    assert errors(f'extends = "{extends}"\n').startswith("mine.toml:1:11: `extends` names ")


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
def test_an_override_value_is_toml_or_else_text(text: str, key: tuple[str, ...], value: Any) -> None:
    parsed = parse_override(text)
    assert isinstance(parsed, Override)
    assert (parsed.key, parsed.value) == (key, value)


@pytest.mark.parametrize(
    ("text", "expected"),
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
def test_a_malformed_override_is_explained(text: str, expected: str) -> None:
    assert expected in parse_override(text).message  # type: ignore[union-attr]


def test_an_override_sets_a_key_in_an_array_of_tables(read: Read) -> None:
    recipe = read(
        '[[metric]]\nuse = "fid"\n[[metric]]\nuse = "fid"\n', "metric.1.every=100", "metric.0.protocol=original"
    )
    assert [part.settings.every for part in recipe.metrics] == [0, 100]
    assert recipe.metrics[0].config.model_dump() == {"protocol": "original"}


def test_the_only_table_of_an_array_needs_no_index(read: Read, errors: Errors) -> None:
    one = '[[metric]]\nuse = "fid"\n'
    recipe = read(one, "metric.every=100", "metric.protocol=original")
    assert recipe.metrics[0].settings.every == 100
    assert recipe.metrics[0].config.model_dump() == {"protocol": "original"}
    assert errors(one + one, "metric.every=100") == (
        "--set metric.every=100: `metric` is a list: set all of it, or a key of one of its tables (metric.0.KEY)\n"
        "  - metric.0 is fid, metric.1 is fid"
    )


def test_an_override_creates_its_section(read: Read) -> None:
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
    ("override", "expected"),
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
def test_an_override_for_an_unknown_key_is_reported(errors: Errors, override: str, expected: str) -> None:
    text = errors('[train]\nsteps = 1\n[[metric]]\nuse = "fid"\n', override)
    assert text.splitlines()[0] == f"--set {override}: {expected}"


def test_an_index_of_thousands_of_digits_is_an_error(errors: Errors) -> None:
    assert "the recipe has no table `metric.999" in errors("", f"metric.{'9' * 5000}.every=1")


def test_all_errors_are_shown_together_files_first(errors: Errors, folder: Path) -> None:
    text = errors("[train]\nx = 1\n", "a", "train.y=1")
    places = [line.split(": ")[0] for line in text.splitlines() if "`" in line or "KEY=" in line]
    assert [place for place in places if not place.startswith(" ")] == ["mine.toml:2:1", "--set a", "--set train.y=1"]
    assert text.endswith("3 problems.")
