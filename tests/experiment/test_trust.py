"""The run of another user runs no code unless it is trusted; this user's runs need no flag."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import ddpmkit
from ddpmkit.cli import main
from ddpmkit.recipe.trust import UntrustedCode

EXTRACTOR = """
from pathlib import Path
from torch import nn

Path("executed").touch()

def network():
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten())
"""


@pytest.fixture
def recipe(small: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A run of two steps, evaluated with the features of a network in a module next to it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = f"extractor_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(EXTRACTOR)
    metric = {"use": "fd", "extractor": f"{module}:network", "size": 8, "num_samples": 4}
    return small(train={"steps": 2}, metric=[metric])


@pytest.fixture
def theirs(recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same run, as if another user had made it."""
    monkeypatch.setenv("DDPMKIT_STATE", "their-state")
    ddpmkit.run(recipe, "theirs")
    monkeypatch.setenv("DDPMKIT_STATE", "my-state")
    Path("executed").unlink()
    # A module that is already imported would not be executed again.
    del sys.modules[recipe["metric"][0]["extractor"].partition(":")[0]]
    return Path("theirs")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--no-plugins"])


def test_the_users_own_run_is_evaluated_without_a_flag(recipe: dict[str, Any]) -> None:
    ddpmkit.run(recipe, "mine")
    assert len(ddpmkit.load("mine").evaluate()) == 1
    shutil.copytree("mine", "copied")
    assert call("evaluate", "copied").exit_code == 0


@pytest.mark.parametrize("where", ["theirs", "theirs/checkpoints/step-00000002"])
def test_a_run_from_elsewhere_is_evaluated_only_if_trusted(where: str, theirs: Path) -> None:
    refused = call("evaluate", where)
    assert refused.exit_code == 2
    assert "was not written by one of your runs" in refused.stderr
    assert "metric.0.extractor = " in refused.stderr
    assert not Path("executed").exists()
    assert call("evaluate", where, "--trust").exit_code == 0
    assert Path("executed").exists()


def test_commands_that_run_no_named_code_need_no_trust(theirs: Path) -> None:
    for arguments in (["sample", "theirs", "-n", "2"], ["visualize", "theirs"], ["interpolate", "theirs", "0", "1"]):
        assert call(*arguments).exit_code == 0, arguments
    assert CliRunner().invoke(main, ["compare", "theirs", "theirs"]).exit_code == 0
    ddpmkit.load("theirs").report()
    assert not Path("executed").exists()


def test_an_override_needs_no_trust(theirs: Path, recipe: dict[str, Any]) -> None:
    mine = json.dumps(recipe["metric"][0]["extractor"])
    assert call("evaluate", "theirs", "--set", f"metric.0.extractor={mine}").exit_code == 0


def test_trust_in_python(theirs: Path) -> None:
    with pytest.raises(UntrustedCode):
        ddpmkit.load("theirs").evaluate()
    assert len(ddpmkit.load("theirs", trust=True).evaluate()) == 1


def test_a_lock_file_from_elsewhere_is_run_only_if_trusted_and_belongs_to_the_user_then(theirs: Path) -> None:
    lock = "theirs/recipe.lock.toml"
    assert call("run", lock, "--out", "again").exit_code == 2
    assert not Path("executed").exists()
    assert not Path("again").exists()
    assert call("run", lock, "--out", "again", "--trust").exit_code == 0
    assert call("evaluate", "again").exit_code == 0


def test_the_users_own_recipe_resumes_a_folder_from_elsewhere_and_runs_only_its_own_code(
    theirs: Path, recipe: dict[str, Any]
) -> None:
    ours = {**recipe, "metric": [{"use": "nearest-neighbours", "num_samples": 4}]}
    ddpmkit.run(ours, "theirs", overrides=["train.steps=4"])
    assert not Path("executed").exists()
    assert [scores.metric for scores in ddpmkit.load("theirs").evaluate()] == ["nearest-neighbours"]


def test_a_state_folder_that_cannot_be_written_does_not_stop_a_run(
    recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").touch()
    monkeypatch.setenv("DDPMKIT_STATE", "file/below")
    ddpmkit.run(recipe, "mine")
    with pytest.raises(UntrustedCode):
        ddpmkit.load("mine").evaluate()
