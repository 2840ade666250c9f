"""A run by a plugin that is a single file, and what becomes of it when the file changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ddpmkit

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
