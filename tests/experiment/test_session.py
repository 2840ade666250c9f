"""The order of a run, and what a stopped or repeated run makes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import differing_tensors, step_records

import ddpmkit
from ddpmkit.checkpoint import Checkpoint, newest_checkpoint
from ddpmkit.errors import ComponentUnavailable
from ddpmkit.experiment import Run
from ddpmkit.interrupts import Interrupted
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.registry import Registry

Recipe = Callable[..., dict[str, Any]]
Train = Callable[..., Run]


@pytest.fixture
def train(small: Recipe) -> Train:
    """Run the small recipe with other keys of `[train]`."""
    return lambda out, steps=20, **keys: ddpmkit.run(small(train={"steps": steps, **keys}), out)


def newest(folder: Path) -> Checkpoint:
    checkpoint = newest_checkpoint(folder / "checkpoints")
    assert checkpoint is not None
    return checkpoint


def test_a_run_stopped_after_9_of_20_steps_and_resumed_has_the_same_bits(train: Train, tmp_path: Path) -> None:
    train(tmp_path / "straight")
    train(tmp_path / "resumed", steps=9)
    train(tmp_path / "resumed", steps=20)
    assert differing_tensors(newest(tmp_path / "straight"), newest(tmp_path / "resumed")) == []
    assert [record["step"] for record in step_records(tmp_path / "resumed")] == list(range(1, 21))


def test_a_run_stopped_between_two_records_writes_the_same_log(small: Recipe, tmp_path: Path) -> None:
    recipe = small(train={"steps": 20, "log_every": 5})
    ddpmkit.run(recipe, tmp_path / "straight")
    calls = iter(range(1000))
    stopped = ddpmkit.run(recipe, tmp_path / "resumed", stop=lambda: next(calls) == 8)
    assert stopped.ended is not None
    assert (stopped.ended.status, stopped.step) == ("stopped", 8)
    finished = ddpmkit.run(recipe, tmp_path / "resumed")
    assert finished.ended is not None
    assert finished.ended.status == "finished"
    assert step_records(tmp_path / "straight") == step_records(tmp_path / "resumed")
    assert differing_tensors(newest(tmp_path / "straight"), newest(tmp_path / "resumed")) == []


def test_the_same_recipe_twice_gives_the_same_log_and_the_same_images(train: Train, tmp_path: Path) -> None:
    for name in ("first", "second"):
        train(tmp_path / name, steps=6, sample_every=3)
    assert step_records(tmp_path / "first") == step_records(tmp_path / "second")
    images = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*.png"))
    assert len(images) == 2 + 10 + 2  # two grids, five moments of two processes, two strips
    for image in images:
        assert (tmp_path / "first" / image).read_bytes() == (tmp_path / "second" / image).read_bytes()


def test_running_a_finished_run_again_changes_nothing(train: Train, tmp_path: Path) -> None:
    train(tmp_path, steps=3)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = train(tmp_path, steps=3)
    assert again.ended is not None
    assert again.ended.status == "finished"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_outputs_that_are_missing_after_the_last_checkpoint_are_made(train: Train, tmp_path: Path) -> None:
    train(tmp_path, steps=3)
    grid = tmp_path / "samples" / "step-00000003.png"
    before = grid.read_bytes()
    grid.unlink()
    (tmp_path / "report.html").unlink()
    train(tmp_path, steps=3)
    assert grid.read_bytes() == before
    assert (tmp_path / "report.html").exists()


def test_a_run_that_is_made_longer_shows_its_new_end_even_if_it_was_interrupted_there(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise Interrupted

    train(tmp_path, steps=3)
    strip = tmp_path / "viz" / "backward.png"
    before = strip.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("ddpmkit.experiment.outputs.visualize", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, steps=6)
    train(tmp_path, steps=6)
    assert strip.read_bytes() != before
    assert "6 steps" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("data", "diffusion"),
    [
        ({"image_size": 36}, {}),
        ({"image_size": [9, 14]}, {}),
        ({"channels": 1}, {}),
        ({"classes": ["dog"]}, {}),
        ({"classes": ["wild"]}, {}),
        ({"classes": "all"}, {}),
        ({"classes": ["cat"], "size": 1}, {}),
        ({"crop_margin": 1.5, "flip": False}, {}),
        ({}, {"prediction": "v"}),
        ({}, {"prediction": "x0"}),
    ],
)
def test_every_kind_of_image_and_prediction_runs_to_its_end(
    small: Recipe, tmp_path: Path, data: dict[str, Any], diffusion: dict[str, Any]
) -> None:
    run = ddpmkit.run(small(data=data, diffusion=diffusion, train={"steps": 2, "accumulate": 2}), tmp_path)
    shape = run.recipe.data.settings.image_shape
    assert run.sample(3).shape == (3, *shape)
    assert (tmp_path / "report.html").exists()
    assert len(list((tmp_path / "viz").glob("*.png"))) == 12
    assert [record["validation_loss"] is not None for record in step_records(tmp_path)] == [False, True]


def test_every_component_is_chosen_by_one_key(small: Recipe, tmp_path: Path) -> None:
    sampler = {"use": "ddim", "steps": 3, "count": 4, "batch_size": 4}
    recipe = small(schedule={"use": "linear"}, loss={"use": "huber"}, sampler=sampler, train={"steps": 2})
    assert ddpmkit.run(recipe, tmp_path).sample(2).shape == (2, 3, 8, 8)


def test_samples_of_a_run_are_those_of_the_averaged_weights(train: Train, tmp_path: Path) -> None:
    run = train(tmp_path, steps=5, learning_rate=0.01)
    assert not torch.equal(run.sample(2, weights="raw"), run.sample(2, weights="ema"))
    assert torch.equal(run.sample(2), run.sample(2, weights="ema"))


class Offline:
    def __init__(self, config: ComponentConfig, *, device: torch.device) -> None:
        raise ComponentUnavailable("its network is not available")


def test_an_unavailable_metric_is_reported_before_anything_is_written(
    small: Recipe, with_parts: Callable[..., Registry], tmp_path: Path
) -> None:
    offline = Component(kind="metric", name="offline", target=f"{__name__}:Offline", summary="not available")
    recipe, registry = small(train={"steps": 1}, metric=[{"use": "local/offline"}]), with_parts(offline)
    with pytest.raises(ComponentUnavailable, match="is not available"):
        ddpmkit.run(recipe, tmp_path / "run", registry=registry)
    assert not (tmp_path / "run").exists()
    assert ddpmkit.run(recipe, tmp_path / "run", registry=registry, skip_unavailable_metrics=True).step == 1
