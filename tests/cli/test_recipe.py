import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ddpmkit.cli.root import main
from ddpmkit.recipe import read_recipe

PLUGIN = """
from ddpmkit.plugin import Component, hookimpl

@hookimpl
def ddpmkit_components():
    yield Component(kind="dataset", name="blank", target=f"{__name__}:Blank", summary="no pictures")
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`ddpmkit recipe ...` in a folder with a good recipe, a bad one, and a plugin file."""
    monkeypatch.chdir(tmp_path)
    Path("blank.py").write_text(PLUGIN)
    Path("base.toml").write_text("[schedule]\ns = 0.1\n[train]\nseed = 5\n")
    Path("good.toml").write_text('extends = "base.toml"\n[data]\nuse = "local/blank"\n')
    Path("bad.toml").write_text("[train]\nstps = 5\n")
    return lambda *args: CliRunner().invoke(main, ["recipe", *args, "--plugin", "blank.py", "--no-plugins"])


def test_check_says_what_a_good_recipe_is(recipe: Callable[..., Result]) -> None:
    result = recipe("check", "good.toml", "--set", "train.steps=7", "--set", "schedule.use=linear")
    assert result.exit_code == 0
    assert result.stdout == (
        "good.toml: good (good: local/blank, attention-unet, linear, l1, ancestral; "
        "7 steps at 32 x 32 px, colour, T = 50)\n"
        "  - --set schedule.use=linear: [schedule] uses linear instead of cosine; dropped s (base.toml:2)\n"
    )


def test_check_shows_every_bad_recipe_and_exits_with_2(recipe: Callable[..., Result]) -> None:
    result = recipe("check", "bad.toml", "missing.toml", "good.toml")
    assert result.exit_code == 2
    assert "bad.toml:2:1: unknown key `stps` in [train]\n     2 | stps = 5\n       | ^^^^\n" in result.stderr
    assert "missing.toml: there is no such file" in result.stderr
    assert result.stdout.startswith("good.toml: good")


def test_show_prints_a_recipe_that_resolves_to_itself(recipe: Callable[..., Result], tmp_path: Path) -> None:
    from ddpmkit.plugin.discovery import discover

    registry = discover([tmp_path / "blank.py"], third_party=False).registry()
    result = recipe("show", "good.toml")
    assert result.exit_code == 0
    shown = read_recipe(tomllib.loads(result.stdout), registry=registry)
    assert shown == read_recipe("good.toml", registry=registry)


def test_show_tells_origins_in_one_column(recipe: Callable[..., Result]) -> None:
    result = recipe("show", "good.toml", "--origins", "--set", "train.steps=7")
    lines = [line for line in result.stdout.splitlines() if "=" in line]
    told = {line.split("#")[0].strip(): line.split("# ")[1] for line in lines}
    assert told['use = "local/blank"'] == "good.toml:3"
    assert told["seed = 5"] == "base.toml:4"
    assert told["steps = 7"] == "--set train.steps=7"
    assert told["batch_size = 32"] == "default"
    assert len({line.rindex("# ") for line in lines}) == 1
    assert tomllib.loads(result.stdout)["train"]["seed"] == 5


def test_show_of_a_bad_recipe_exits_with_2(recipe: Callable[..., Result]) -> None:
    result = recipe("show", "bad.toml")
    assert result.exit_code == 2
    assert "did you mean `steps`" in result.stderr


def test_schema_prints_json_with_the_installed_components(recipe: Callable[..., Result]) -> None:
    result = recipe("schema")
    use = json.loads(result.stdout)["properties"]["data"]["properties"]["use"]
    assert {"const": "local/blank", "description": "no pictures"} in use["anyOf"]
