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
    yield Component(kind="dataset", name="blank", target=f"{__name__}:Blank", summary="no images")

class Blank: ...
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`ddpmkit recipe ...` in a folder with a valid recipe, an invalid one, and a plugin file."""
    monkeypatch.chdir(tmp_path)
    Path("blank.py").write_text(PLUGIN)
    Path("base.toml").write_text("[schedule]\ns = 0.1\n[train]\nseed = 5\n")
    Path("good.toml").write_text('extends = "base.toml"\n[data]\nuse = "local/blank"\n')
    Path("bad.toml").write_text("[train]\nstps = 5\n")
    return lambda *args: CliRunner().invoke(main, ["recipe", *args, "--plugin", "blank.py", "--no-plugins"])


def test_check_prints_a_summary_of_a_valid_recipe(recipe: Callable[..., Result]) -> None:
    result = recipe("check", "good.toml", "--set", "train.steps=7", "--set", "schedule.use=linear")
    assert result.exit_code == 0
    assert result.stdout == (
        "good.toml: ok (good: local/blank, attention-unet, linear, l1, ancestral; "
        "7 steps at 32 x 32 px, colour, T = 50)\n"
        "  - --set schedule.use=linear: [schedule] uses linear instead of cosine; dropped s (base.toml:2)\n"
    )


def test_check_shows_all_invalid_recipes_and_exits_2(recipe: Callable[..., Result]) -> None:
    result = recipe("check", "bad.toml", "missing.toml", "good.toml")
    assert result.exit_code == 2
    assert "bad.toml:2:1: unknown key `stps` in [train]\n     2 | stps = 5\n       | ^^^^\n" in result.stderr
    assert "missing.toml: there is no such file" in result.stderr
    assert result.stdout.startswith("good.toml: ok")


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (
            'target=f"{__name__}:Blank", requires=("sys", "no_such_module")',
            "dataset 'local/blank' (blank.py) needs the module no_such_module, not installed here\n",
        ),
        (
            'target="no_such_package.data:Blank"',
            "dataset 'local/blank': its target no_such_package.data:Blank failed with ModuleNotFoundError: "
            "No module named 'no_such_package'\n",
        ),
        ('target=f"{__name__}:Blanc"', "has no attribute 'Blanc'; did you mean 'Blank'?\n"),
    ],
)
def test_check_shows_missing_code_at_its_line_in_the_recipe(
    recipe: Callable[..., Result], declared: str, message: str
) -> None:
    Path("blank.py").write_text(PLUGIN.replace('target=f"{__name__}:Blank"', declared))
    result = recipe("check", "good.toml")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: good.toml:3:7: dataset 'local/blank'")
    assert f'{message}     3 | use = "local/blank"\n' in result.stderr
    assert "  - use another dataset" in result.stderr
    assert "ok (good:" not in result.stdout
    # What only reads a recipe, of a run that was made elsewhere, does not ask.
    assert recipe("show", "good.toml").exit_code == 0


def test_check_shows_missing_code_once_for_a_sweep(recipe: Callable[..., Result]) -> None:
    Path("blank.py").write_text(PLUGIN.replace(":Blank", ":Blanc"))
    Path("sweep.toml").write_text('extends = "good.toml"\n[sweep.over]\ntrain.seed = [1, 2]\n')
    result = recipe("check", "sweep.toml")
    assert result.exit_code == 2
    assert result.stderr.count("has no attribute 'Blanc'") == 1


def test_show_prints_a_recipe_that_resolves_to_itself(recipe: Callable[..., Result], tmp_path: Path) -> None:
    from ddpmkit.plugin.discovery import discover

    registry = discover([tmp_path / "blank.py"], third_party=False).registry()
    result = recipe("show", "good.toml")
    assert result.exit_code == 0
    shown = read_recipe(tomllib.loads(result.stdout), registry=registry)
    assert shown == read_recipe("good.toml", registry=registry)


def test_show_prints_origins_in_one_column(recipe: Callable[..., Result]) -> None:
    result = recipe("show", "good.toml", "--origins", "--set", "train.steps=7")
    lines = [line for line in result.stdout.splitlines() if "=" in line]
    origins = {line.split("#")[0].strip(): line.split("# ")[1] for line in lines}
    assert origins['use = "local/blank"'] == "good.toml:3"
    assert origins["seed = 5"] == "base.toml:4"
    assert origins["steps = 7"] == "--set train.steps=7"
    assert origins["batch_size = 32"] == "default"
    assert len({line.rindex("# ") for line in lines}) == 1
    assert tomllib.loads(result.stdout)["train"]["seed"] == 5


def test_show_of_an_invalid_recipe_exits_2(recipe: Callable[..., Result]) -> None:
    result = recipe("show", "bad.toml")
    assert result.exit_code == 2
    assert "did you mean `steps`" in result.stderr


def test_schema_prints_json_with_the_installed_components(recipe: Callable[..., Result]) -> None:
    result = recipe("schema")
    use = json.loads(result.stdout)["properties"]["data"]["properties"]["use"]
    assert {"const": "local/blank", "description": "no images"} in use["anyOf"]
