import itertools
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import incidents, step_records
from torch import Tensor, nn

import ddpmkit
from ddpmkit.checkpoint import checkpoint_folders, newest_checkpoint, open_checkpoint, step_of
from ddpmkit.contracts import ImageShape
from ddpmkit.errors import RunFailed
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.registry import Registry
from ddpmkit.training.trainer import Trainer

Recipe = Callable[..., dict[str, Any]]


class InfiniteInValidation:
    """Infinite if gradients are off: in validation only."""

    def __init__(self, config: ComponentConfig, *, prediction: str) -> None:
        pass

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        loss = (prediction - target).square().flatten(1).mean(1)
        return loss if torch.is_grad_enabled() else loss * torch.inf


class Runaway(nn.Module):
    """A network whose weight changes in the same direction at every step, and whose output does not depend on it."""

    def __init__(
        self, config: ComponentConfig, *, image_shape: ImageShape, num_classes: int, out_channels: int
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return x + 10 + (self.weight - self.weight.detach())


@pytest.fixture
def registry(with_parts: Callable[..., Registry]) -> Registry:
    return with_parts(
        Component(
            kind="loss",
            name="unlucky",
            target="stress_plugin:Unlucky",
            config="stress_plugin:UnluckyConfig",
            summary="NaN for some batches",
        ),
        Component(
            kind="loss", name="blind", target=f"{__name__}:InfiniteInValidation", summary="infinite without gradients"
        ),
        Component(kind="backbone", name="runaway", target=f"{__name__}:Runaway", summary="overflows"),
    )


def unlucky(small: Recipe, above: float = 1.0, **train: Any) -> dict[str, Any]:
    return small(loss={"use": "local/unlucky", "above": above}, train=train)


def tensors(folder: Path) -> dict[str, Tensor]:
    checkpoint = newest_checkpoint(folder / "checkpoints")
    assert checkpoint is not None
    parts = ("model", "ema", "optimizer", "progress")
    return {f"{part}/{key}": value for part in parts for key, value in checkpoint.tensors(part).items()}


def assert_equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


def test_stop_saves_the_steps_before_and_records_images_and_timesteps(
    small: Recipe, registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(RunFailed, match="the loss is nan and the gradient norm nan") as caught:
        ddpmkit.run(unlucky(small), tmp_path, registry=registry)
    (incident,) = incidents(tmp_path)
    assert incident["done"] == "stopped"
    assert len(incident["images"]) == len(incident["timesteps"]) == len(incident["losses"]) == 4
    (kept,) = checkpoint_folders(tmp_path / "checkpoints")
    assert step_of(kept) == incident["step"] - 1
    assert all(torch.isfinite(value).all() for value in tensors(tmp_path).values())
    assert f"The weights after step {step_of(kept)} are saved. The images and timesteps" in caught.value.message
    assert 'on_nonfinite = "skip"' in str(caught.value)


def test_a_failure_after_a_step_that_was_not_finite_saves_the_steps_before_both(
    small: Recipe, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queued step is found only when the state is saved."""
    recipe = unlucky(small, log_every=100, steps=100, checkpoint_every=0)
    with pytest.raises(RunFailed):
        ddpmkit.run(recipe, tmp_path / "stopped", registry=registry)
    (incident,) = incidents(tmp_path / "stopped")
    train_step = Trainer.train_step

    def failing(trainer: Trainer) -> None:
        if trainer.step == incident["step"]:
            raise ValueError("something else")
        train_step(trainer)

    monkeypatch.setattr(Trainer, "train_step", failing)
    with pytest.raises(ValueError, match="something else"):
        ddpmkit.run(recipe, tmp_path / "failed", registry=registry)
    (kept,) = checkpoint_folders(tmp_path / "failed" / "checkpoints")
    assert step_of(kept) == incident["step"] - 1
    assert_equal(tensors(tmp_path / "failed"), tensors(tmp_path / "stopped"))


def test_stop_states_that_the_weights_could_not_be_saved(small: Recipe, registry: Registry, tmp_path: Path) -> None:
    def full_disk() -> bool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        return False

    with pytest.raises(RunFailed, match="the loss is nan") as caught:
        ddpmkit.run(unlucky(small), tmp_path, registry=registry, stop=full_disk)
    (incident,) = incidents(tmp_path)
    assert checkpoint_folders(tmp_path / "checkpoints") == []
    expected = rf"The weights after step {incident['step'] - 1} are not saved: .*step-\d+ could not be written.*"
    assert re.search(expected + r"There is no checkpoint\.", caught.value.message)


def test_a_nan_loss_of_infinite_weights_names_the_weight(small: Recipe, registry: Registry, tmp_path: Path) -> None:
    recipe = small(backbone={"use": "local/runaway"}, train={"learning_rate": 3e37})
    with pytest.raises(RunFailed, match="the loss is nan") as caught:
        ddpmkit.run(recipe, tmp_path, registry=registry)
    (incident,) = incidents(tmp_path)
    step = incident["step"] - 1
    assert f"The weights after step {step} are not saved: weight of model is not finite." in caught.value.message
    assert "There is no checkpoint." in caught.value.message
    assert "skip" not in str(caught.value)


def test_the_suggestion_to_skip_works_on_the_same_run(small: Recipe, registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RunFailed):
        ddpmkit.run(unlucky(small), tmp_path / "run", registry=registry)
    ddpmkit.run(unlucky(small, on_nonfinite="skip"), tmp_path / "run", registry=registry)
    ddpmkit.run(unlucky(small, on_nonfinite="skip"), tmp_path / "straight", registry=registry)
    assert_equal(tensors(tmp_path / "run"), tensors(tmp_path / "straight"))


def test_skip_skips_only_the_batch(small: Recipe, registry: Registry, tmp_path: Path) -> None:
    run = ddpmkit.run(unlucky(small, on_nonfinite="skip"), tmp_path, registry=registry)
    passed = {incident["step"] for incident in incidents(tmp_path)}
    assert 1 <= len(passed) < 10
    assert {incident["done"] for incident in incidents(tmp_path)} == {"skipped the batch"}
    assert {record["step"] for record in step_records(tmp_path)} == set(range(1, 21)) - passed
    assert run.step == 20
    counts = {value.item() for key, value in tensors(tmp_path).items() if key.endswith("/step")}
    assert counts == {20 - len(passed)}


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_stopping_and_resuming_changes_nothing(small: Recipe, registry: Registry, tmp_path: Path, policy: str) -> None:
    keys: dict[str, Any] = {"on_nonfinite": policy, "checkpoint_every": 3, "keep_last": 0}
    ddpmkit.run(unlucky(small, **keys), tmp_path / "straight", registry=registry)
    asked = itertools.count()
    ddpmkit.run(unlucky(small, **keys), tmp_path / "halted", registry=registry, stop=lambda: next(asked) == 9)
    ddpmkit.run(unlucky(small, **keys), tmp_path / "halted", registry=registry)
    assert len(incidents(tmp_path / "straight")) > 1
    assert_equal(tensors(tmp_path / "straight"), tensors(tmp_path / "halted"))
    assert step_records(tmp_path / "straight") == step_records(tmp_path / "halted")


@pytest.mark.parametrize("keep_last", [1, 2])
def test_a_run_is_rolled_back_to_the_same_checkpoints_wherever_it_was_stopped(
    small: Recipe, registry: Registry, tmp_path: Path, keep_last: int
) -> None:
    """A stop saves a checkpoint that an uninterrupted run does not have. A run is not rolled back to it."""
    recipe = unlucky(small, on_nonfinite="rollback", checkpoint_every=5, keep_last=keep_last)
    straight, before_step = tmp_path / "straight", list[int]()

    def look() -> bool:
        before_step.append(len(incidents(straight)) if (straight / "incidents.jsonl").exists() else 0)
        return False

    ddpmkit.run(recipe, straight, registry=registry, stop=look)
    unlucky_steps = [call for call, (now, then) in enumerate(itertools.pairwise(before_step)) if then > now]
    assert len(unlucky_steps) > 1
    for call in unlucky_steps[:2]:
        halted, asked = tmp_path / f"stopped-{call}", itertools.count()
        # Just before a step that fails, and after the checkpoint to roll back to.
        ddpmkit.run(recipe, halted, registry=registry, stop=lambda asked=asked, call=call: next(asked) == call)
        (newest, *_) = checkpoint_folders(halted / "checkpoints")
        assert step_of(newest) % 5 != 0
        ddpmkit.run(recipe, halted, registry=registry)
        assert [entry["done"] for entry in incidents(halted)] == [entry["done"] for entry in incidents(straight)]
        assert_equal(tensors(straight), tensors(halted))
        assert step_records(straight) == step_records(halted)
        one, two = (checkpoint_folders(run / "checkpoints") for run in (straight, halted))
        assert list(map(step_of, one)) == list(map(step_of, two))


def test_skip_gives_up_after_its_limit(small: Recipe, registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="step 4"):
        ddpmkit.run(unlucky(small, above=-100, on_nonfinite="skip", nonfinite_limit=3), tmp_path, registry=registry)
    assert [incident["done"] for incident in incidents(tmp_path)] == [*["skipped the batch"] * 3, "stopped"]


def test_rollback_continues_from_the_last_checkpoint_with_other_batches(
    small: Recipe, registry: Registry, tmp_path: Path
) -> None:
    run = ddpmkit.run(unlucky(small, on_nonfinite="rollback", checkpoint_every=2), tmp_path, registry=registry)
    went = incidents(tmp_path)
    assert run.step == 20
    assert [record["step"] for record in step_records(tmp_path)] == list(range(1, 21))
    assert int(tensors(tmp_path)["progress/detours"]) == len(went) > 0
    for incident in went:
        back = (incident["step"] - 1) // 2 * 2
        assert incident["done"] == f"rolled back to step {back}; training continues with other batches"


def test_a_stop_leaves_a_queued_step_that_was_not_finite_to_the_process_that_resumes(
    small: Recipe, registry: Registry, tmp_path: Path
) -> None:
    recipe = unlucky(small, above=1.4, on_nonfinite="rollback", checkpoint_every=10, log_every=10)
    ddpmkit.run(recipe, tmp_path / "whole", registry=registry)
    (first, *others) = incidents(tmp_path / "whole")
    calls = itertools.count(1)

    def after_the_step() -> bool:
        return next(calls) > first["step"]

    ddpmkit.run(recipe, tmp_path / "stopped", registry=registry, stop=after_the_step)
    assert not (tmp_path / "stopped" / "incidents.jsonl").exists()
    ddpmkit.run(recipe, tmp_path / "stopped", registry=registry)
    assert incidents(tmp_path / "stopped") == [first, *others]
    assert_equal(tensors(tmp_path / "stopped"), tensors(tmp_path / "whole"))


def test_a_rollback_to_the_start_writes_no_snapshot_of_it(small: Recipe, registry: Registry, tmp_path: Path) -> None:
    recipe = unlucky(
        small, above=1.4, on_nonfinite="rollback", checkpoint_every=0, ema_sigma_rels=(0.05, 0.1), ema_snapshot_every=10
    )
    ddpmkit.run(recipe, tmp_path, registry=registry)
    assert incidents(tmp_path)
    assert {step_of(folder) for folder in checkpoint_folders(tmp_path / "snapshots")} == {10, 20}


def test_rollback_gives_up_after_its_limit(small: Recipe, registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"step 1: the loss is nan .* as often as train.nonfinite_limit = 3 allows\."):
        ddpmkit.run(unlucky(small, above=-100, on_nonfinite="rollback", nonfinite_limit=3), tmp_path, registry=registry)
    assert len(incidents(tmp_path)) == 4
    assert [step_of(folder) for folder in checkpoint_folders(tmp_path / "checkpoints")] == [0]


@pytest.mark.parametrize("policy", ["stop", "skip", "rollback"])
def test_a_weight_that_overflows_is_never_saved(small: Recipe, registry: Registry, tmp_path: Path, policy: str) -> None:
    recipe = small(
        backbone={"use": "local/runaway"},
        train={"learning_rate": 3e37, "checkpoint_every": 1, "on_nonfinite": policy, "keep_last": 0},
    )
    with pytest.raises(RunFailed, match="of model is not finite, and was not saved") as caught:
        ddpmkit.run(recipe, tmp_path, registry=registry)
    folders = checkpoint_folders(tmp_path / "checkpoints")
    assert len(folders) > 1
    assert f"The last checkpoint is that of step {max(map(step_of, folders))}." in caught.value.message
    assert "are saved" not in caught.value.message
    assert "images" not in caught.value.message
    assert ("skip" in str(caught.value), '"rollback"' in str(caught.value)) == (False, policy != "rollback")
    for folder in folders:
        assert torch.isfinite(open_checkpoint(folder).tensors("model")["weight"]).all()


def test_an_infinite_validation_loss_is_left_out_of_the_log_and_recorded(
    small: Recipe, registry: Registry, tmp_path: Path
) -> None:
    ddpmkit.run(small(loss={"use": "local/blind"}, train={"steps": 2}), tmp_path, registry=registry)
    assert step_records(tmp_path)[-1]["validation_loss"] is None
    assert [(entry["step"], entry["validation_loss"]) for entry in incidents(tmp_path)] == [(2, "inf")]
