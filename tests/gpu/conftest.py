"""A device to test, and small recipes and trainers for it. `--gpu-tests-on cpu` runs most of these tests on a CPU."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from ddpmkit.experiment.build import build_images
from ddpmkit.experiment.model import build_model
from ddpmkit.recipe import read_recipe
from ddpmkit.training.trainer import Trainer

_NEED_CUDA = ("test_device_program.py",)

_SMALL: Mapping[str, Mapping[str, Any]] = {
    "data": {"use": "critters", "image_size": 8, "size": 32, "val_size": 4},
    "diffusion": {"timesteps": 10},
    "backbone": {"dim": 8, "multipliers": [1, 2], "linear_attention_levels": [1], "heads": 1, "head_dim": 8},
    "sampler": {"count": 4, "batch_size": 4},
    "train": {
        **{"steps": 20, "batch_size": 8, "log_every": 1, "precision": "float32"},
        **{"sample_every": 0, "checkpoint_every": 0, "validate_every": 0},
    },
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if str(config.getoption("--gpu-tests-on")).startswith("cpu"):
        for item in items:
            if item.path.parent == Path(__file__).parent and item.path.name in _NEED_CUDA:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device named by `--gpu-tests-on`."""
    return torch.device(request.config.getoption("--gpu-tests-on"))


@pytest.fixture
def small(device: torch.device) -> Callable[..., dict[str, Any]]:
    """A recipe for the device, with other sections; one with another `use` starts from that component's defaults."""

    def recipe(**sections: Any) -> dict[str, Any]:
        merged: dict[str, Any] = {"name": "small", **_SMALL}
        merged["train"] = {**merged["train"], "device": str(device)}
        for name, section in sections.items():
            merged[name] = section if "use" in section else {**merged.get(name, {}), **section}
        return merged

    return recipe


@pytest.fixture
def make_trainer() -> Callable[..., Trainer]:
    """The trainer of a recipe. `refused` is called if its step cannot be captured in a graph."""

    def make(recipe: dict[str, Any], **settings: Any) -> Trainer:
        read = read_recipe(recipe)
        model = build_model(read)
        return Trainer(model.network, model.objective(), build_images(read, "train"), read.train, **settings)

    return make


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch's deterministic algorithms: an operator without one raises RuntimeError."""
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
