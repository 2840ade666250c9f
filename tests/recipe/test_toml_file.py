import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import RecipeError, read_recipe

ErrorText = Callable[[str], str]


@pytest.fixture
def error_text(folder: Path, registry: Registry) -> ErrorText:
    """The error for a file that cannot be read."""

    def error_text(path: str) -> str:
        with pytest.raises(RecipeError) as caught:
            read_recipe(path, registry=registry)
        return str(caught.value)

    return error_text


def test_a_missing_file_suggests_similar_names(folder: Path, error_text: ErrorText) -> None:
    (folder / "quickstart.toml").touch()
    (folder / "notes.txt").touch()
    assert error_text("quikstart.toml") == (
        "quikstart.toml: there is no such file\n"
        "  - did you mean quickstart.toml?\n"
        f"  - recipes in {folder.resolve()}: quickstart.toml"
    )
    assert "did you mean quickstart.toml?" in error_text("quickstart")


def test_the_suffix_alone_does_not_make_names_similar(folder: Path, error_text: ErrorText) -> None:
    for name in ("mine.toml", "pyproject.toml"):
        (folder / name).touch()
    assert error_text("nope.toml") == f"nope.toml: there is no such file\n  - recipes in {folder.resolve()}: mine.toml"


def test_an_empty_or_missing_folder_is_named(folder: Path, error_text: ErrorText) -> None:
    assert error_text("x.toml").endswith(f"{folder.resolve()} contains no .toml file")
    assert error_text("no/x.toml").endswith(f"the folder {folder.resolve() / 'no'} does not exist either")


def test_a_folder_is_not_a_recipe(folder: Path, error_text: ErrorText) -> None:
    (folder / "recipes").mkdir()
    (folder / "recipes" / "a.toml").touch()
    assert error_text("recipes") == "recipes: this is a folder, not a recipe\n  - recipes in it: recipes/a.toml"
    for number in range(13):
        (folder / "recipes" / f"b{number}.toml").touch()
    assert error_text("recipes").endswith("recipes/b7.toml and 2 more")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00", "x.toml: this is not a text file; a recipe is TOML, in UTF-8"),
        ("name = 'x'".encode("utf-16"), "x.toml: this file is UTF-16; a recipe must be UTF-8"),
        (
            b"# ok\nname = 'caf\xe9'\n",
            "x.toml:2:12: byte 0xe9 is not UTF-8\n     2 | name = 'caf\ufffd'\n       |            ^",
        ),
        (b"a = " + b"[" * 5000, "x.toml: nested too deeply"),
        (
            b"a = " + b"[" * 60 + b"]" * 60,
            f"x.toml:1:55: nested too deeply\n     1 | {'[' * 43}{']' * 57}\n       | {' ' * 33}{'^' * 20}",
        ),
        (
            b"# ok\n a" + b".a" * 300 + b" = 1",
            f"x.toml:2:2: nested too deeply\n     2 |  a{'.a' * 49}\n       |  {'^' * 99}",
        ),
        (
            b"[train]\nseed = 0x1_0000_0000_0000_0000",
            "x.toml:2:8: TOML integers have at most 64 bits\n"
            f"     2 | seed = 0x1_0000_0000_0000_0000\n       |        {'^' * 23}",
        ),
        (
            b"[train]\nseed = 1" + b"0" * 5000,
            f"x.toml:2:8: TOML integers have at most 64 bits\n     2 | seed = 1{'0' * 92}\n       |        {'^' * 93}",
        ),
    ],
)
def test_invalid_toml_is_explained(folder: Path, error_text: ErrorText, content: bytes, message: str) -> None:
    (folder / "x.toml").write_bytes(content)
    assert error_text("x.toml") == message


def test_control_characters_are_not_printed(folder: Path, error_text: ErrorText) -> None:
    (folder / "x.toml").write_bytes(b"# \x1b[31mred")
    first, *excerpt = error_text("x.toml").splitlines()
    assert first.startswith("x.toml:1:3: not valid TOML: ")
    assert excerpt == ["     1 | # \ufffd[31mred", "       |   ^"]


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(folder: Path, registry: Registry) -> None:
    (folder / "x.toml").write_bytes(b"\xef\xbb\xbf[train]\r\nsteps = 5\r\n")
    recipe = read_recipe("x.toml", registry=registry)
    assert recipe.train.steps == 5
    assert str(recipe.origins["train", "steps"]) == "x.toml:2"


@pytest.mark.parametrize(
    ("data", "error_text"),
    [
        ({"train": {"steps": None}}, "None (NoneType) cannot be written in TOML"),
        ({"train": {1: 2}}, "the key 1 is not a string"),
        ({"train": {"steps": "x"}}, '`steps` in [train] must be an integer of at least 1, but is "x"'),
    ],
)
def test_plain_data_is_checked_like_a_file(registry: Registry, data: dict[str, Any], error_text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(data, registry=registry)
    assert str(caught.value).splitlines()[0] == f"the given recipe: {error_text}"


def test_a_file_name_that_is_not_text_becomes_a_valid_run_name(folder: Path, registry: Registry) -> None:
    file = folder / os.fsdecode(b"caf\xe9.toml")
    file.touch()
    assert read_recipe(file, registry=registry).name == "caf\ufffd"


def test_a_date_becomes_text(folder: Path, registry: Registry) -> None:
    (folder / "x.toml").write_text("name = 1979-05-27\n[data]\nclasses = [07:32:00]\n")
    recipe = read_recipe("x.toml", registry=registry)
    assert (recipe.name, recipe.data.settings.classes) == ("1979-05-27", ("07:32:00",))
    (folder / "x.toml").write_text("[schedule]\nuse = 1979-05-27\n")
    with pytest.raises(RecipeError, match=r"x.toml:2:7: there is no schedule `1979-05-27`"):
        read_recipe("x.toml", registry=registry)


class Backbone(StrEnum):
    LARGE = "transformer"


def test_plain_data_may_contain_members_of_enumerations(registry: Registry) -> None:
    recipe = read_recipe(
        {"backbone": {"use": Backbone.LARGE}, "data": {"classes": [Backbone.LARGE]}}, registry=registry
    )
    assert recipe.backbone.component.use == "transformer"
    assert recipe.data.settings.classes == ("transformer",)


def test_plain_data_may_contain_paths_and_tuples(registry: Registry) -> None:
    data = {"data": {"use": "image-folder", "root": Path("a/b"), "classes": ("cat",)}}
    recipe = read_recipe(data, registry=registry)
    assert recipe.data.config.model_dump()["root"] == Path("a/b")
    assert recipe.data.settings.classes == ("cat",)
