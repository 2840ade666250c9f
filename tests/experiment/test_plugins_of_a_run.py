"""A run by a plugin that is a single file, and what becomes of it when the file changes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import ddpmkit
from ddpmkit.checkpoint import save_checkpoint
from ddpmkit.display import SilentDisplay
from ddpmkit.errors import InputError
from ddpmkit.recipe import read_lock

ZIGZAG = """
import torch
from ddpmkit.plugin import Component, hookimpl

class Zigzag:
    def __init__(self, config, *, timesteps):
        self.timesteps = timesteps

    def alphas_cumprod(self):
        return 1 - (torch.arange(1, self.timesteps + 1, dtype=torch.float64) / (self.timesteps + 1)) ** 2

@hookimpl
def ddpmkit_components():
    yield Component(kind="schedule", name="zigzag", target=f"{__name__}:Zigzag", summary="a power")
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("zigzag.py").write_text(ZIGZAG)
    return Path("zigzag.py")


@pytest.fixture
def recipe(small: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return small(schedule={"use": "local/zigzag"}, train={"steps": 1})


def test_python_runs_and_opens_what_a_file_brings(plugin: Path, recipe: dict[str, Any]) -> None:
    assert ddpmkit.read_recipe(recipe, plugins=[plugin]).schedule.component.use == "local/zigzag"
    ddpmkit.run(recipe, "run", plugins=["zigzag.py"])
    assert ddpmkit.load("run", plugins=[plugin]).sample(1).shape == (1, 3, 8, 8)


class Listening(SilentDisplay):
    def __init__(self) -> None:
        self.remarks: list[str] = []

    def message(self, text: str) -> None:
        self.remarks.append(text)


def test_a_run_goes_on_by_a_file_that_was_changed_and_says_what_that_means(
    plugin: Path, recipe: dict[str, Any]
) -> None:
    before = ddpmkit.run(recipe, "run", plugins=[plugin]).recipe.schedule.component.plugin.version
    plugin.write_text(ZIGZAG + "# a remark\n")
    listening = Listening()
    recipe["train"]["steps"] = 2
    run = ddpmkit.run(recipe, "run", plugins=[plugin], display=listening)
    change = f"zigzag.py: {before} -> {run.recipe.schedule.component.plugin.version}"
    (warning,) = (remark for remark in listening.remarks if change in remark)
    assert "bit for bit" in warning
    assert json.loads(Path("run/incidents.jsonl").read_text())["changes"] == ["train.steps: 1 -> 2", change]


def test_a_run_goes_on_by_another_version_and_names_both(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe["schedule"] = {"use": "linear"}
    ddpmkit.run(recipe, tmp_path)
    monkeypatch.setattr("platform.python_version", lambda: "99.1")
    recipe["train"]["steps"] = 2
    listening, later = Listening(), Listening()
    ddpmkit.run(recipe, tmp_path, display=listening)
    ddpmkit.run(recipe, tmp_path, display=later)
    (warning,) = (remark for remark in listening.remarks if "python: " in remark)
    assert " -> 99.1; the run goes on" in warning
    assert not any("warning" in remark for remark in later.remarks)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_resume_with_another_number_of_threads_says_so_once(
    recipe: dict[str, Any], tmp_path: Path, threads: Callable[[int], None]
) -> None:
    """Threads add up parts of a sum, so 1 and 2 of them round differently: no resume is exact between them."""
    recipe["schedule"] = {"use": "linear"}
    warnings = {}
    for steps, count in ((1, 2), (2, 2), (3, 1), (4, 1)):
        threads(count)
        recipe["train"]["steps"] = steps
        listening = Listening()
        run = ddpmkit.run(recipe, tmp_path, display=listening)
        warnings[steps] = [remark for remark in listening.remarks if "warning" in remark]
        assert read_lock(run.folder.lock).provenance.arithmetic["threads"] == str(count)
    assert warnings[1] == warnings[2] == warnings[4] == []
    (warning,) = warnings[3]
    assert "threads: 2 -> 1" in warning
    assert "OMP_NUM_THREADS" in warning
    incidents = [json.loads(line) for line in (tmp_path / "incidents.jsonl").read_text().splitlines()]
    assert "threads: 2 -> 1" in incidents[1]["changes"]


def test_a_run_from_before_threads_were_noted_is_resumed_without_a_warning(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe["schedule"] = {"use": "linear"}
    run = ddpmkit.run(recipe, tmp_path)
    lines = run.folder.lock.read_text().splitlines(True)
    old = [line for line in lines if not line.startswith("arithmetic = ")]
    assert len(old) == len(lines) - 1
    run.folder.lock.write_text("".join(old))
    parts = {name: run.checkpoint.tensors(name) for name in ("model", "ema", "optimizer", "progress")}
    save_checkpoint(run.folder.checkpoints, 1, parts, run.folder.lock)
    recipe["train"]["steps"] = 2
    listening = Listening()
    assert ddpmkit.run(recipe, tmp_path, display=listening).step == 2
    assert not any("warning" in remark for remark in listening.remarks)


def test_a_run_trained_by_another_alpha_bar_is_neither_gone_on_with_nor_sampled(
    plugin: Path, recipe: dict[str, Any]
) -> None:
    ddpmkit.run(recipe, "run", plugins=[plugin])
    plugin.write_text(ZIGZAG.replace("** 2", "** 3"))
    lock = Path("run/recipe.lock.toml").read_text()
    recipe["train"]["steps"] = 2
    for again in (
        lambda: ddpmkit.run(recipe, "run", plugins=[plugin], accept_changes=True),
        lambda: ddpmkit.load("run", plugins=[plugin]),
    ):
        with pytest.raises(InputError, match="another alpha_bar than schedule 'local/zigzag'") as caught:
            again()
        assert "restore zigzag.py as it was" in str(caught.value)
        assert "--out DIR starts another run" in str(caught.value)
    assert Path("run/recipe.lock.toml").read_text() == lock
    assert [folder.name for folder in Path("run/checkpoints").iterdir()] == ["step-00000001"]


def test_a_run_from_before_alpha_bar_was_noted_is_gone_on_with(plugin: Path, recipe: dict[str, Any]) -> None:
    run = ddpmkit.run(recipe, "run", plugins=[plugin])
    old = "".join(line for line in run.folder.lock.read_text().splitlines(True) if "alpha_bar_fing" not in line)
    run.folder.lock.write_text(old)
    parts = {name: run.checkpoint.tensors(name) for name in ("model", "ema", "optimizer")}
    save_checkpoint(run.folder.checkpoints, 1, parts, run.folder.lock)
    plugin.write_text(ZIGZAG.replace("** 2", "** 3"))
    assert ddpmkit.load("run", plugins=[plugin]).step == 1
