"""Averages of the weights from a run to what is drawn with them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import ddpmkit
from ddpmkit.checkpoint import checkpoint_folders, newest_checkpoint, open_checkpoint, save_checkpoint, step_of
from ddpmkit.cli import main
from ddpmkit.contracts import MetricProtocol
from ddpmkit.errors import InputError, RunFailed
from ddpmkit.experiment import Run
from ddpmkit.experiment.snapshots import Snapshots
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import RecipeError

Recipe = Callable[..., dict[str, Any]]
KEPT = {"ema_decays": [0.5], "ema_sigma_rels": [0.05, 0.1]}


def tensors(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Every part of the newest checkpoint and of every snapshot."""
    newest = newest_checkpoint(folder / "checkpoints")
    assert newest is not None
    found = [newest, *map(open_checkpoint, checkpoint_folders(folder / "snapshots"))]
    return {
        f"{item.path.relative_to(folder)}/{file.stem}": item.tensors(file.stem)
        for item in found
        for file in sorted(item.path.glob("*.safetensors"))
    }


def snapshots(folder: Path) -> list[int]:
    return sorted(map(step_of, checkpoint_folders(folder / "snapshots")))


def test_a_resumed_run_has_the_averages_and_snapshots_of_one_that_went_straight(small: Recipe, tmp_path: Path) -> None:
    recipe = small(train={"steps": 12, "checkpoint_every": 5, "ema_snapshot_every": 4, "keep_last": 1, **KEPT})
    ddpmkit.run(recipe, tmp_path / "straight")
    calls = iter(range(1000))
    ddpmkit.run(recipe, tmp_path / "resumed", stop=lambda: next(calls) == 9)
    assert snapshots(tmp_path / "resumed") == [4, 8]
    ddpmkit.run(recipe, tmp_path / "resumed")
    straight, resumed = tensors(tmp_path / "straight"), tensors(tmp_path / "resumed")
    assert snapshots(tmp_path / "straight") == [4, 8, 12]
    assert "checkpoints/step-00000012/model" in straight
    assert straight.keys() == resumed.keys()
    assert {name.rpartition("/")[2] for name in straight} == {
        *("model", "optimizer", "progress", "ema", "ema-decay-0.5", "ema-sigma_rel-0.05", "ema-sigma_rel-0.1")
    }
    for part, expected in straight.items():
        assert expected.keys() == resumed[part].keys()
        assert all(torch.equal(value, resumed[part][name]) for name, value in expected.items()), part


@pytest.mark.parametrize("step", [4, 8, 12])
def test_a_snapshot_that_the_disk_did_not_take_is_written_before_the_next_checkpoint(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    recipe = small(train={"steps": 12, "checkpoint_every": 5, "ema_snapshot_every": 4, "keep_last": 1, **KEPT})
    ddpmkit.run(recipe, tmp_path / "straight")
    written: list[str] = []

    def save(parent: Path, at: int, *rest: Any) -> Any:
        if parent.name == "snapshots" and at == step and f"snapshots {step} failed" not in written:
            written.append(f"snapshots {step} failed")
            raise RunFailed("no space left.")
        written.append(f"{parent.name} {at}")
        return save_checkpoint(parent, at, *rest)

    monkeypatch.setattr("ddpmkit.experiment.saving.save_checkpoint", save)
    ddpmkit.run(recipe, tmp_path / "full")
    order = [("snapshots", 4), ("checkpoints", 5), ("snapshots", 8), ("checkpoints", 10)]
    expected = [f"{name} {at}" for name, at in [*order, ("snapshots", 12), ("checkpoints", 12)]]
    expected.insert(expected.index(f"snapshots {step}"), f"snapshots {step} failed")
    assert written == expected
    one, two = tensors(tmp_path / "straight"), tensors(tmp_path / "full")
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[part][name]) for part in one for name, value in one[part].items())


def test_snapshots_of_steps_that_are_taken_again_are_dropped(small: Recipe, tmp_path: Path) -> None:
    recipe = small(train={"steps": 6, "checkpoint_every": 3, "ema_snapshot_every": 2, **KEPT})
    ddpmkit.run(recipe, tmp_path)
    (newest, *_) = checkpoint_folders(tmp_path / "checkpoints")
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    ddpmkit.run(small(train={**recipe["train"], "ema_snapshot_every": 0}), tmp_path)
    assert snapshots(tmp_path) == [2]


def test_the_command_draws_with_a_width_and_names_the_file_by_it(small: Recipe, tmp_path: Path) -> None:
    ddpmkit.run(small(train={"steps": 4, "ema_snapshot_every": 1, **KEPT}), tmp_path)
    done = CliRunner().invoke(main, ["sample", str(tmp_path), "-n", "1", "--weights", "sigma_rel=.070"])
    assert (done.exit_code, done.stdout.strip()[-18:]) == (0, "sigma_rel=0.07.png")


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Run]:
    """One run of 60 steps with two widths and a snapshot every two steps."""
    made: list[Run] = []

    def run(small: Recipe) -> Run:
        if not made:
            keys = {"steps": 60, "log_every": 50, "ema_snapshot_every": 2, "learning_rate": 0.01, **KEPT}
            made.append(ddpmkit.run(small(train=keys), tmp_path_factory.mktemp("results") / "long"))
        return made[0]

    return run


def flat(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.double().flatten() for _, value in sorted(state.items())])


def test_a_width_made_afterwards_is_the_one_that_training_would_have_kept(
    small: Recipe, long_run: Callable[[Recipe], Run], tmp_path: Path
) -> None:
    run = long_run(small)
    wanted = {"steps": 60, "log_every": 50, "learning_rate": 0.01, "ema_sigma_rels": [0.03, 0.07, 0.15]}
    kept = ddpmkit.run(small(train=wanted), tmp_path)
    for width in (0.03, 0.07, 0.15):
        expected = flat(kept.checkpoint.tensors(f"ema-sigma_rel-{width}"))
        made = flat(dict(run.generator(f"sigma_rel={width}").network.state_dict()))
        near = flat(run.checkpoint.tensors("ema-sigma_rel-0.1"))
        assert (made - expected).norm() < 5e-4 * (near - expected).norm()


def test_every_kind_of_weights_can_be_sampled(small: Recipe, long_run: Callable[[Recipe], Run]) -> None:
    run = long_run(small)
    names = ["ema", "raw", "decay=0.5", "sigma_rel=0.05", "sigma_rel=0.08"]
    images = [run.sample(2, weights=name) for name in names]
    assert len({tuple(image.flatten().tolist()) for image in images}) == len(names)
    for name, drawn in zip(names, images, strict=True):
        other = ddpmkit.load(run.folder.path, overrides=[f'sampler.weights="{name}"'])
        assert torch.equal(other.sample(2), drawn)
    assert torch.equal(run.sample(2, weights="decay=0.995"), images[0])  # train.ema_decay by its number


def test_weights_that_cannot_be_had_are_said_with_those_that_can(
    small: Recipe, long_run: Callable[[Recipe], Run], tmp_path: Path
) -> None:
    run = long_run(small)
    with pytest.raises(
        InputError, match=r"weights decay=0\.9 are not available: this run stores no matching average"
    ) as refused:
        run.sample(1, weights="decay=0.9")
    assert "raw, decay=0.995, decay=0.5, sigma_rel=0.05, sigma_rel=0.1" in str(refused.value)
    with pytest.raises(
        InputError, match=r"sigma_rel = 0\.001 at step 60 cannot be made from the stored widths 0\.05, 0\.1"
    ):
        run.sample(1, weights="sigma_rel=0.001")
    for impossible in ("sigma_rel=0.3", "sigma_rel=0", "sigma_rel=1e-300", "decay=1", "best", "sigma_rel=", "ema=2"):
        with pytest.raises(InputError, match='must be "ema", "raw"'):
            run.sample(1, weights=impossible)
    plain = ddpmkit.run(small(train={"steps": 1}), tmp_path)
    with pytest.raises(RecipeError, match=r"set train.ema_sigma_rels"):
        ddpmkit.load(plain.folder.path, overrides=["sampler.weights=sigma_rel=0.1"])


def test_a_damaged_snapshot_is_left_out(small: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = ddpmkit.run(small(train={"steps": 8, "ema_snapshot_every": 2, **KEPT}), tmp_path)
    with (tmp_path / "snapshots" / "step-00000004" / "ema-sigma_rel-0.1.safetensors").open("ab") as file:
        file.write(b"x")
    run.sample(1, weights="sigma_rel=0.07")
    assert "step-00000004" in caplog.text
    assert "It is not used." in caplog.text


class WithBuffers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.tied = self.linear
        self.register_buffer("coefficients", torch.tensor([1e-3, 1.0]))
        self.register_buffer("count", torch.tensor(3))


def test_buffers_are_no_part_of_a_mixture(tmp_path: Path) -> None:
    network, lock = WithBuffers(), tmp_path / "lock"
    lock.touch()
    for step in (1, 2):
        state = {name: torch.full_like(value, 7) for name, value in network.state_dict().items()}
        save_checkpoint(tmp_path / "snapshots", step, {"ema-sigma_rel-0.05": state, "ema-sigma_rel-0.1": state}, lock)
    current = {0.05: network.state_dict(), 0.1: network.state_dict()}
    mixed = Snapshots(tmp_path / "snapshots").posthoc_average(0.07, 3, current, network)
    for name, value in network.state_dict().items():
        if name in ("coefficients", "count"):
            assert torch.equal(mixed[name], value)
        else:
            assert not torch.equal(mixed[name], value)
    assert torch.equal(mixed["tied.weight"], mixed["linear.weight"])
    save_checkpoint(tmp_path / "snapshots", 2, {"ema-sigma_rel-0.1": {"other": torch.zeros(2)}}, lock)
    with pytest.raises(InputError, match="step-00000002 is of another network"):
        Snapshots(tmp_path / "snapshots").posthoc_average(0.07, 3, current, network)


class Brightness:
    better = {"brightness": "higher"}  # noqa: RUF012  # a protocol asks for an attribute
    protocol = MetricProtocol("plain", num_samples=4, weights="ema", comparable=True)

    def __init__(self, config: ComponentConfig, *, device: torch.device) -> None: ...

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        return {"sum": images.double().sum()}

    measure_generated = measure_real

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sum": first["sum"] + second["sum"]}

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        return {"brightness": generated["sum"].item()}


@pytest.mark.parametrize("weights", ["raw", "decay=0.5", "sigma_rel=0.07"])
def test_a_metric_of_averaged_weights_scores_the_average_that_was_chosen(
    small: Recipe, with_parts: Callable[..., Registry], tmp_path: Path, weights: str
) -> None:
    brightness = Component(kind="metric", name="bright", target=f"{__name__}:Brightness", summary="sums")
    recipe = small(
        train={"steps": 12, "learning_rate": 0.01, "ema_snapshot_every": 2, **KEPT},
        sampler={"weights": weights},
        metric=[{"use": "local/bright"}],
    )
    run = ddpmkit.run(recipe, tmp_path, registry=with_parts(brightness))
    assert run.ended is not None
    assert run.ended.problems == ()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    (score,) = [line for line in lines if line["event"] == "scores"]
    drawn = run.sample(4, weights="ema" if weights == "raw" else weights)
    assert score["values"]["brightness"] == drawn.double().sum().item()
    assert score["facts"].get("weights", "ema") == ("ema" if weights == "raw" else weights)
    assert score["facts"]["sampler"] == f"ancestral, {run.recipe.diffusion.timesteps} steps"
    (again,) = run.evaluate()
    assert again.values == score["values"]
