"""The identity of an evaluation: which scores count as its own, and which changes make it another one."""

import json
import math
import resource
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from pydantic import Field
from rich.console import Console
from torch import Tensor

import ddpmkit
from ddpmkit.cli import main
from ddpmkit.cli.plain_log import PlainDisplay
from ddpmkit.cli.run_status import RunStatus
from ddpmkit.cli.summary import summary
from ddpmkit.contracts import MetricProtocol, Scores
from ddpmkit.errors import ComponentUnavailable, InputError
from ddpmkit.experiment import Run
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.registry import Registry
from ddpmkit.run_folder import RunFolder
from ddpmkit.score_log import read_scores

Recipe = Callable[..., dict[str, Any]]
Registries = Callable[..., Registry]


class LevelConfig(ComponentConfig):
    """The power of the grey level to average."""

    without_effect: ClassVar = frozenset({"batch_size"})

    power: int = Field(default=1)
    """The power."""
    batch_size: int = 4
    """Has no effect on scores."""
    answer: str = ""
    """What to return instead of the level."""


class Level:
    """The mean of a power of the grey levels."""

    better: ClassVar = {"level": "lower"}

    def __init__(self, config: LevelConfig, *, device: torch.device) -> None:
        self.config = config
        self.protocol = MetricProtocol("plain", num_samples=4, weights="ema", comparable=True)

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        total = (images.double() / 255).pow(self.config.power).mean(dim=(1, 2, 3)).sum()
        return {"sum": total, "count": torch.tensor(len(images), dtype=torch.float64)}

    measure_generated = measure_real

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: first[name] + second[name] for name in first}

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, Any]:
        level = float(generated["sum"] / generated["count"])
        answers: dict[str, Any] = {"": level, "nan": math.nan, "inf": math.inf, "text": "good"}
        return {"level": answers[self.config.answer], "fine": level}


class Offline:
    def __init__(self, config: ComponentConfig, *, device: torch.device) -> None:
        raise ComponentUnavailable("its network is not available", remedies=["--skip-unavailable-metrics"])


@pytest.fixture
def registry(with_parts: Registries) -> Registry:
    target = f"{__name__}:Level"
    return with_parts(
        Component(kind="metric", name="level", target=target, config=f"{__name__}:LevelConfig", summary="grey levels"),
        Component(kind="metric", name="offline", target=f"{__name__}:Offline", summary="not available"),
    )


@pytest.fixture
def train(small: Recipe, registry: Registry, tmp_path: Path) -> Callable[..., Run]:
    def run(*metrics: dict[str, Any], **sections: Any) -> Run:
        used = [{"use": "local/level", **metric} for metric in metrics or ({},)]
        sections["train"] = {"steps": 2, **sections.get("train", {})}
        return ddpmkit.run(small(metric=used, **sections), tmp_path, registry=registry)

    return run


def found(folder: Path) -> list[Scores]:
    return read_scores(RunFolder(folder).log)


def test_two_metrics_of_one_use_have_different_names_everywhere(train: Callable[..., Run], tmp_path: Path) -> None:
    train({"power": 1, "every": 1}, {"power": 2, "every": 1})
    scores = found(tmp_path)
    assert [(each.step, each.metric) for each in scores] == [
        (step, f"local/level[power={power}]") for step in (1, 2) for power in (1, 2)
    ]
    first, second, *_ = [each.values["level"] for each in scores]
    assert first != second
    page = (tmp_path / "report.html").read_text()
    assert "local/level[power=1] level (plain protocol)" in page
    assert "local/level[power=2] level (plain protocol)" in page
    done = CliRunner().invoke(main, ["compare", str(tmp_path)], env={"COLUMNS": "140"})
    assert "local/level[power=1] level" in done.output
    assert "local/level[power=2] level" in done.output


def test_a_single_metric_is_named_by_its_use(train: Callable[..., Run], tmp_path: Path) -> None:
    train({"power": 2})
    assert [each.metric for each in found(tmp_path)] == ["local/level"]


def test_a_finished_run_with_changed_settings_is_evaluated_again(train: Callable[..., Run], tmp_path: Path) -> None:
    ddim = {"use": "ddim", "count": 4, "batch_size": 4}
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"power": 2}, {}),
        ({"num_samples": 3}, {}),
        ({}, {"sampler": {"steps": 3}}),
        ({}, {"sampler": ddim}),
        ({}, {"sampler": {**ddim, "eta": 0.5}}),
    ]
    for number, (metric, sections) in enumerate(changes, start=1):
        train(metric, **sections)
        assert [(each.step, each.origin) for each in found(tmp_path)] == [(2, "run")] * number
    identities = [json.dumps(each.identity, sort_keys=True) for each in found(tmp_path)]
    assert len(set(identities)) == len(changes)
    assert found(tmp_path)[-1].facts["sampler"] == "ddim, 6 steps, eta = 0.5"
    # All of them exist already.
    for metric, sections in (changes[0], changes[-1]):
        train(metric, **sections)
        assert len(found(tmp_path)) == len(changes)


def test_settings_that_do_not_affect_scores_make_no_new_evaluation(train: Callable[..., Run], tmp_path: Path) -> None:
    train({})
    before = (tmp_path / "metrics.jsonl").read_bytes()
    train({"batch_size": 2, "every": 1})
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_manual_score_does_not_count_as_one_of_the_run(train: Callable[..., Run], tmp_path: Path) -> None:
    run = train({})
    (own,) = found(tmp_path)
    for num_samples in (None, 2):
        (asked,) = run.evaluate(num_samples=num_samples)
        assert (asked.origin, asked.num_samples) == ("request", num_samples or 4)
    assert [each.origin for each in found(tmp_path)] == ["run", "request", "request"]
    page = run.report().read_text()
    assert f"local/level level (plain) {own.values['level']:.4g}" in page
    assert "manual evaluation, ancestral, 6 steps" in page
    # A log with manual scores only has no score of the run, which is taken again.
    log = tmp_path / "metrics.jsonl"
    lines = [line for line in log.read_text().splitlines(keepends=True) if '"origin": "run"' not in line]
    log.write_text("".join(lines))
    train({})
    assert [each.origin for each in found(tmp_path)] == ["request", "request", "run"]


def test_compare_lists_manual_scores_separately(small: Recipe, registry: Registry, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run = ddpmkit.run(
            small(train={"steps": 1}, metric=[{"use": "local/level"}]), tmp_path / name, registry=registry
        )
    run.evaluate(num_samples=2)
    done = CliRunner().invoke(main, ["compare", str(tmp_path / "a"), str(tmp_path / "b")], env={"COLUMNS": "140"})
    lines = [line for line in done.output.splitlines() if "level" in line]
    rows = {line.rsplit(maxsplit=2)[0].strip(): line.split()[-2:] for line in lines}
    assert "lower is better" in done.output
    asked = rows["local/level (manual) level"]
    assert asked[0] == "-"
    assert asked[1] != "-"


def test_a_score_of_an_earlier_version_counts_as_the_evaluation_that_it_describes(
    train: Callable[..., Run], tmp_path: Path
) -> None:
    train({})
    log = tmp_path / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        for name in ("origin", "identity", "unusable"):
            line.pop(name, None)
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    before = log.read_bytes()
    train({})
    assert log.read_bytes() == before
    train({"num_samples": 3})
    assert [each.num_samples for each in found(tmp_path)] == [4, 3]


def test_the_best_checkpoint_is_chosen_by_the_runs_own_scores_with_the_current_settings(
    train: Callable[..., Run], tmp_path: Path
) -> None:
    keeping = {"steps": 3, "keep_last": 1, "keep_best": "level", "checkpoint_every": 1}
    train({"every": 1}, train=keeping)
    log, best = RunFolder(tmp_path).log, found(tmp_path)
    chosen = min(best, key=lambda each: each.values["level"]).step
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {f"step-{step:08d}" for step in (chosen, 3)}
    # Better scores of another identity, or requested ones, do not choose a checkpoint.
    for step, change in ((1, {"origin": "request"}), (2, {"identity": {**best[0].identity, "num_samples": 2}})):
        log.append("scores", asdict(replace(best[0], step=step, values={"level": -9.0}, **change)))
    log.sync()
    train({"every": 1}, train={**keeping, "steps": 4})
    scores = [each for each in found(tmp_path) if each.values["level"] >= 0]
    chosen = min(scores, key=lambda each: each.values["level"]).step
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {f"step-{step:08d}" for step in (chosen, 4)}


def test_keep_best_with_an_unknown_score_is_rejected_before_the_first_step(
    train: Callable[..., Run], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"keep_best = 'lvel'") as caught:
        train({}, train={"keep_best": "lvel"})
    assert "scores that can be used: level" in str(caught.value)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(("answer", "shown"), [("nan", "nan"), ("inf", "inf"), ("text", "'good'")])
def test_a_score_that_is_not_finite_is_shown_and_never_ranked(
    train: Callable[..., Run], tmp_path: Path, answer: str, shown: str
) -> None:
    run = train({"answer": answer})
    assert run.ended is not None
    assert any(f"metric 'local/level' returned level = {shown} at step 2" in problem for problem in run.ended.problems)
    (scores,) = found(tmp_path)
    assert scores.unusable == {"level": shown}
    assert set(scores.values) == {"fine"}
    assert shown in (tmp_path / "report.html").read_text().replace("&#39;", "'")
    assert [each.unusable for each in run.evaluate()] == [{"level": shown}]
    train({"answer": answer})
    assert len(found(tmp_path)) == 2


def test_scores_are_returned_if_the_log_cannot_be_written(
    train: Callable[..., Run], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = train({})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    (scores,) = run.evaluate()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert scores.values["level"] > 0
    assert "the scores are shown, but not stored" in caplog.text
    assert len(found(tmp_path)) == 1


def test_a_finished_run_with_another_grid_generates_it_again(train: Callable[..., Run], tmp_path: Path) -> None:
    train({})
    grid, strip = tmp_path / "samples" / "step-00000002.png", tmp_path / "viz" / "backward.png"
    before, processes, page = grid.read_bytes(), strip.read_bytes(), (tmp_path / "report.html").read_bytes()
    train({}, sampler={"count": 9})
    with Image.open(grid) as opened:
        assert opened.size == (3 * 98 + 2, 3 * 98 + 2)
    assert strip.read_bytes() == processes
    assert (tmp_path / "report.html").read_bytes() != page
    train({}, sampler={"use": "ddim", "count": 4, "batch_size": 4})
    assert grid.read_bytes() != before
    assert strip.read_bytes() != processes
    train({})
    assert (grid.read_bytes(), strip.read_bytes()) == (before, processes)


def test_a_skipped_metric_is_not_suggested(small: Recipe, registry: Registry, tmp_path: Path) -> None:

    for metrics, offered in (
        ([{"use": "local/offline"}], None),
        ([{"use": "local/offline"}, {"use": "local/level"}], f"{tmp_path}/2 --skip-unavailable-metrics"),
        ([{"use": "local/level"}], f"{tmp_path}/1"),
    ):
        display, folder = PlainDisplay(Console(quiet=True)), tmp_path / str(len(metrics) if offered else 0)
        ddpmkit.run(
            small(train={"steps": 1}, metric=metrics),
            folder,
            registry=registry,
            skip_unavailable_metrics=True,
            display=display,
        )
        standing = display.status
        assert standing.started is not None
        upcoming = RunStatus()
        upcoming.started = replace(standing.started, first_step=0)
        assert [what for what, _ in upcoming.upcoming()] == ["samples", *(["local/level"] if offered else [])]
        lines = [line for line in summary(standing) if "evaluate" in line]
        assert lines == ([f"  ddpmkit evaluate {offered}"] if offered else [])


def test_everything_that_is_missing_is_reported_together(small: Recipe, registry: Registry, tmp_path: Path) -> None:
    recipe = small(
        data={"use": "image-folder", "root": str(tmp_path / "nowhere"), "image_size": 8},
        metric=[{"use": "local/offline"}, {"use": "fd", "extractor": str(tmp_path / "none.pt")}],
    )
    with pytest.raises(InputError) as caught:
        ddpmkit.run(recipe, tmp_path / "run", registry=registry)
    text = str(caught.value)
    for expected in ("nowhere", "its network is not available", "none.pt", "3 problems."):
        assert expected in text
    assert not (tmp_path / "run").exists()
