from collections.abc import Callable
from pathlib import Path

import pytest

from ddpmkit.contracts import RunStarted, Scores, StepRecord


class Clock:
    """A clock that only tests advance."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


RECIPE = """
name = "tiny"
[data]
use = "local/greys"
image_size = 8
[diffusion]
timesteps = 5
[backbone]
use = "local/pixelwise"
[sampler]
count = 4
[train]
steps = 4
batch_size = 4
log_every = 2
device = "cpu"
[[metric]]
use = "local/brightness"
"""


@pytest.fixture(scope="session")
def recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cats"
    folder.mkdir()
    return folder


@pytest.fixture
def started(run_folder: Path) -> Callable[..., RunStarted]:
    def make(first_step: int = 0, last_step: int = 1000) -> RunStarted:
        recipe = {
            "train": {"batch_size": 32, "sample_every": 400, "steps": last_step},
            "metric": [{"use": "clean-fid", "every": 0}],
        }
        return RunStarted("cats", run_folder, recipe, 2_470_000, first_step, last_step, {"clean-fid": 0})

    return make


@pytest.fixture
def record() -> Callable[..., StepRecord]:
    def make(step: int, validation_loss: float | None = None) -> StepRecord:
        return StepRecord(step, 0.125, (0.1, None, 0.2, 0.3), 1.0, 1e-3, 96.0, validation_loss)

    return make


@pytest.fixture
def scores() -> Scores:
    return Scores(
        step=400,
        metric="clean-fid",
        protocol="standard",
        comparable=True,
        num_samples=5000,
        num_reference=4739,
        values={"fid": 102.345},
        floor={"fid": 8.125},
        better={"fid": "lower"},
    )
