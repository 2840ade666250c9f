"""Choosing the weights to generate with, from a run to its samples and scores."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

import ddpmkit
from ddpmkit.cli import main
from ddpmkit.contracts import MetricProtocol
from ddpmkit.errors import InputError
from ddpmkit.experiment import Run
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import RecipeError

Recipe = Callable[..., dict[str, Any]]
AVERAGES = {"ema_decays": [0.5], "ema_sigma_rels": [0.05, 0.1]}


def test_sample_with_a_width_names_the_file_by_it(small: Recipe, tmp_path: Path) -> None:
    ddpmkit.run(small(train={"steps": 4, "ema_snapshot_every": 1, **AVERAGES}), tmp_path)
    done = CliRunner().invoke(main, ["sample", str(tmp_path), "-n", "1", "--weights", "sigma_rel=.070"])
    assert (done.exit_code, done.stdout.strip()[-18:]) == (0, "sigma_rel=0.07.png")


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Run]:
    """One run of 60 steps with two widths and a snapshot every two steps."""
    made: list[Run] = []

    def run(small: Recipe) -> Run:
        if not made:
            keys = {"steps": 60, "log_every": 50, "ema_snapshot_every": 2, "learning_rate": 0.01, **AVERAGES}
            made.append(ddpmkit.run(small(train=keys), tmp_path_factory.mktemp("results") / "long"))
        return made[0]

    return run


def flat(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.double().flatten() for _, value in sorted(state.items())])


def test_a_posthoc_width_is_close_to_the_average_that_training_would_have_stored(
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
    for name, expected in zip(names, images, strict=True):
        other = ddpmkit.load(run.folder.path, overrides=[f'sampler.weights="{name}"'])
        assert torch.equal(other.sample(2), expected)
    assert torch.equal(run.sample(2, weights="decay=0.995"), images[0])  # train.ema_decay by its value


def test_unavailable_weights_are_named_with_the_available_ones(
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


class Brightness:
    better = {"brightness": "higher"}  # noqa: RUF012  # the contract requires an attribute
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
def test_a_metric_of_averaged_weights_evaluates_the_chosen_average(
    small: Recipe, with_parts: Callable[..., Registry], tmp_path: Path, weights: str
) -> None:
    brightness = Component(kind="metric", name="bright", target=f"{__name__}:Brightness", summary="sums")
    recipe = small(
        train={"steps": 12, "learning_rate": 0.01, "ema_snapshot_every": 2, **AVERAGES},
        sampler={"weights": weights},
        metric=[{"use": "local/bright"}],
    )
    run = ddpmkit.run(recipe, tmp_path, registry=with_parts(brightness))
    assert run.ended is not None
    assert run.ended.problems == ()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    (score,) = [line for line in lines if line["event"] == "scores"]
    images = run.sample(4, weights="ema" if weights == "raw" else weights)
    assert score["values"]["brightness"] == images.double().sum().item()
    assert score["facts"].get("weights", "ema") == ("ema" if weights == "raw" else weights)
    assert score["facts"]["sampler"] == f"ancestral, {run.recipe.diffusion.timesteps} steps"
    (again,) = run.evaluate()
    assert again.values == score["values"]
