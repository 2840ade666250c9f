from collections.abc import Callable
from pathlib import Path

import pytest

from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import Recipe, read_recipe
from ddpmkit.recipe.layers import merge_layers
from ddpmkit.recipe.recipe_file import Layer

Read = Callable[..., Recipe]
Errors = Callable[..., str]

FOLDER = '[data]\nuse = "image-folder"\nroot = "pictures"\non_bad_image = "skip"\nflip = false\n'


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


def test_extends_is_relative_to_the_file_that_says_it(folder: Path, registry: Registry) -> None:
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "sub" / "deep" / "root.toml").write_text("[train]\nsteps = 3\nseed = 5\n")
    (folder / "sub" / "middle.toml").write_text('extends = "deep/root.toml"\n[train]\nsteps = 4\n')
    (folder / "top.toml").write_text('extends = "sub/middle.toml"\n')
    recipe = read_recipe(folder / "top.toml", registry=registry)
    assert (recipe.train.steps, recipe.train.seed) == (4, 5)
    from_data = read_recipe({"extends": "sub/middle.toml"}, registry=registry)
    assert from_data == read_recipe({"extends": "sub/middle.toml", "name": "recipe"}, registry=registry)
    assert from_data.train == recipe.train


def test_the_name_is_the_files_and_is_not_inherited(read: Read, registry: Registry) -> None:
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


def test_a_missing_base_is_named_where_it_is_asked_for(errors: Errors, folder: Path) -> None:
    assert errors('extends = "bass.toml"\n', base="") == (
        "mine.toml:1:11: `extends` requires bass.toml: there is no such file\n"
        '     1 | extends = "bass.toml"\n'
        "       |           ^^^^^^^^^^^\n"
        "  - did you mean base.toml?\n"
        f"  - recipes in {folder.resolve()}: base.toml, mine.toml"
    )
    assert "must be the name of a recipe file" in errors("extends = 3\n")


def test_another_use_restarts_the_section_and_says_what_it_dropped(read: Read) -> None:
    recipe = read('extends = "base.toml"\n[data]\nuse = "critters"\n', base=FOLDER)
    assert recipe.data.component.use == "critters"
    assert recipe.data.settings.flip is False  # the core's own key stays
    assert {key[1:] for key in recipe.origins if key[0] == "data"} == {(), ("use",), ("flip",)}
    assert recipe.notes == (
        "mine.toml:3: [data] uses critters instead of image-folder; "
        "dropped root (base.toml:3), on_bad_image (base.toml:4)",
    )


def test_the_default_component_is_left_too(read: Read) -> None:
    recipe = read('extends = "base.toml"\n[schedule]\nfirst_beta = 0.1\nuse = "linear"\n', base="[schedule]\ns = 0.1\n")
    assert recipe.schedule.config.model_dump() == {"first_beta": 0.1}
    assert recipe.notes[0].endswith("[schedule] uses linear instead of cosine; dropped s (base.toml:2)")


def test_the_same_component_by_its_full_name_restarts_nothing(read: Read) -> None:
    recipe = read('extends = "base.toml"\n[schedule]\nuse = "ddpmkit/cosine"\n', base="[schedule]\ns = 0.1\n")
    assert recipe.schedule.config.model_dump()["s"] == 0.1
    assert recipe.notes == ()


def test_every_leaf_remembers_its_origin(read: Read) -> None:
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


def test_a_note_repeats_nothing_that_a_terminal_would_obey(read: Read) -> None:
    base = f'[schedule]\nuse = "\\u001b[31m"\n"\\u009b2J\\n" = 1\n{"x" * 5000} = 1\n'
    (note,) = read('extends = "base.toml"\n[schedule]\nuse = "linear"\n', base=base).notes
    assert note.startswith(
        "mine.toml:3: [schedule] uses linear instead of \ufffd[31m; dropped \ufffd2J  (base.toml:3), "
    )
    assert len(note) < 1000


@pytest.mark.parametrize("value", ['["x"]', "[]", "{a = 1}"])
def test_a_replaced_array_leaves_no_origin_behind(value: str) -> None:
    tree = merge_layers([Layer("base", {"data": {"classes": ["a", "b"]}})], [f"data.classes={value}"])
    assert ("data", "classes", 1) not in tree.origins


@pytest.mark.parametrize("extends", ["a\\u0000b", "~nobody/x.toml", "/", ".", "x" * 300])
def test_no_name_of_a_base_does_worse_than_an_error(errors: Errors, extends: str) -> None:
    assert errors(f'extends = "{extends}"\n').startswith("mine.toml:1:11: `extends` requires ")
