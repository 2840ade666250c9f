"""Sampling, evaluating and visualizing an opened run."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import ddpmkit
from ddpmkit.checkpoint import checkpoint_folders, open_checkpoint, save_checkpoint
from ddpmkit.cli import main
from ddpmkit.data.images import evenly_spread
from ddpmkit.errors import InputError, RunFailed
from ddpmkit.experiment.build import build_images
from ddpmkit.run_folder import RunFolder
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.sampling.visualize import forward_frames, reverse_frames
from ddpmkit.training.trainer import Trainer

Recipe = Callable[..., dict[str, Any]]


@pytest.fixture
def broken_run(small: Recipe, tmp_path: Path) -> Callable[[float], tuple[Path, str]]:
    """A finished run with an intact checkpoint that contains one value that is not finite."""

    def make(value: float) -> tuple[Path, str]:
        folder = tmp_path / "run"
        ddpmkit.run(small(train={"steps": 2}, metric=[{"use": "nearest-neighbours", "num_samples": 4}]), folder)
        (path,) = checkpoint_folders(folder / "checkpoints")
        checkpoint = open_checkpoint(path)
        parts = {part: checkpoint.tensors(part) for part in ("model", "ema", "optimizer", "progress")}
        name = sorted(parts["ema"])[3]
        for part in ("model", "ema"):
            parts[part][name].view(-1)[0] = value
        save_checkpoint(folder / "checkpoints", 3, parts, checkpoint.lock)
        return folder, name

    return make


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_generate_nothing(
    broken_run: Callable[[float], tuple[Path, str]], value: float
) -> None:
    folder, name = broken_run(value)
    run = ddpmkit.load(folder)
    image = torch.zeros((3, 8, 8), dtype=torch.uint8)
    mask = torch.ones((8, 8), dtype=torch.bool)
    for use in (
        lambda: run.sample(2),
        lambda: run.sample(2, weights="raw"),
        lambda: run.edit(image, 2),
        lambda: run.inpaint(image, mask, 2),
        lambda: run.interpolate(0, 1),
        lambda: run.visualize(),
        lambda: run.evaluate(num_samples=4),
    ):
        with pytest.raises(RunFailed, match=f"tensor '{name}' contains NaN or infinity"):
            use()


@pytest.mark.parametrize("command", [["sample"], ["evaluate", "--num-samples", "4"], ["visualize"], ["interpolate"]])
def test_commands_on_weights_that_are_not_finite_name_the_tensor_and_write_nothing(
    broken_run: Callable[[float], tuple[Path, str]], command: list[str]
) -> None:
    folder, name = broken_run(math.nan)
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    ends = ["0", "1"] if command == ["interpolate"] else []
    done = CliRunner().invoke(main, [command[0], str(folder), *ends, *command[1:]])
    assert done.exit_code == 1, done.output
    assert name in done.output
    assert "contains NaN or infinity" in done.output
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before


def test_a_generator_keeps_its_weights_when_another_one_is_made(small: Recipe, tmp_path: Path) -> None:
    run = ddpmkit.run(small(train={"steps": 5, "learning_rate": 0.01}), tmp_path)
    averaged, last = run.sample(2, weights="ema"), run.sample(2, weights="raw")
    assert not torch.equal(averaged, last)
    first, second = run.generator("ema"), run.generator("raw")
    assert torch.equal(run.generate(first, 2), averaged)
    assert torch.equal(run.generate(second, 2), last)


def test_a_run_neither_samples_nor_evaluates_weights_that_are_not_finite(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is finite and no checkpoint is due: only samples and scores use the average."""
    step = Trainer.train_step

    def damaging(trainer: Trainer) -> None:
        step(trainer)
        if trainer.step == 2:
            with torch.no_grad():
                next(trainer.averaged_network().parameters()).view(-1)[0] = math.nan

    monkeypatch.setattr(Trainer, "train_step", damaging)
    metric = [{"use": "nearest-neighbours", "num_samples": 4, "every": 2}]
    with pytest.raises(RunFailed):
        ddpmkit.run(small(train={"steps": 4, "sample_every": 2}, metric=metric), tmp_path)
    assert "scores" not in {record["event"] for record in RunFolder(tmp_path).log.records()}
    assert not (tmp_path / "samples").exists()
    reasons = [record["reason"] for record in RunFolder(tmp_path).incidents.records("failed") if "reason" in record]
    assert len([reason for reason in reasons if "NaN or infinity" in reason]) >= 2


def test_the_image_of_a_sampler_that_diverges_is_not_written(small: Recipe, tmp_path: Path) -> None:
    run = ddpmkit.run(small(train={"steps": 1}), tmp_path)
    frames = ImageGenerator.frames

    def diverging(generator: ImageGenerator, *arguments: Any) -> Any:
        for frame in frames(generator, *arguments):
            yield frame._replace(x=frame.x * math.nan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageGenerator, "frames", diverging)
        done = CliRunner().invoke(main, ["sample", str(tmp_path), "-n", "2", "--out", str(tmp_path / "new.png")])
        with pytest.raises(RunFailed, match="2 of 2 images"):
            run.sample(2)
    assert done.exit_code == 1
    assert "contain NaN or infinity" in done.output
    assert not (tmp_path / "new.png").exists()


def test_the_repr_of_a_run_and_of_its_generator_is_short(small: Recipe, tmp_path: Path) -> None:
    run = ddpmkit.run(small(train={"steps": 2}), tmp_path / "run")
    assert repr(run) == f"<Run '{tmp_path / 'run'}' at step 2>"
    for shown in (repr(run.generator()), repr(run.model), repr(ddpmkit.load(run.checkpoint.path).checkpoint)):
        assert "tensor(" not in shown
        assert "Conv2d" not in shown


def test_arguments_are_checked_before_anything_is_generated(small: Recipe, tmp_path: Path) -> None:
    run = ddpmkit.run(small(train={"steps": 2}, metric=[{"use": "nearest-neighbours", "num_samples": 4}]), tmp_path)
    image = torch.zeros((3, 8, 8), dtype=torch.uint8)
    mask = torch.ones((8, 8), dtype=torch.bool)
    wrong: list[tuple[str, Callable[[], object]]] = [
        ("count must be an integer of at least 1, not 0", lambda: run.sample(0)),
        ("count must be an integer of at least 1, not -1", lambda: run.edit(image, -1)),
        ("count must be an integer of at least 1, not 2.5", lambda: run.sample(2.5)),  # type: ignore[arg-type]
        ("count must be an integer of at least 1, not '3'", lambda: run.sample("3")),  # type: ignore[arg-type]
        ("count must be an integer of at least 1, not True", lambda: run.sample(True)),
        ("count must be an integer of at least 2, not 1", lambda: run.interpolate(0, 1, 1)),
        ("the number of sampling steps must be an integer from 1 to 6, not 0", lambda: run.sample(2, steps=0)),
        ("the number of sampling steps must be an integer from 1 to 6, not 7", lambda: run.sample(2, steps=7)),
        ("seed must be an integer from 0 to .*, not -1", lambda: run.sample(2, seed=-1)),
        ("seed must be an integer from 0 to .*, not 9223372036854775808", lambda: run.sample(2, seed=2**63)),
        ("seed must be an integer from 0 to .*, not 1.5", lambda: run.visualize(seed=1.5)),  # type: ignore[arg-type]
        ("resample must be an integer of at least 1, not 0", lambda: run.inpaint(image, mask, 2, resample=0)),
        ("num_samples must be an integer of at least 2, not 0", lambda: run.evaluate(num_samples=0)),
        ('but is ""', lambda: run.sample(2, weights="")),
    ]
    for message, use in wrong:
        with pytest.raises(InputError, match=message):
            use()
    numpy_count: Any = np.int64(2)
    assert torch.equal(run.sample(numpy_count, seed=3), run.sample(2, seed=3))


def test_the_reverse_process_starts_at_noise_and_ends_at_the_samples(small: Recipe, tmp_path: Path) -> None:
    run = ddpmkit.run(small(train={"steps": 2}), tmp_path)
    frames = reverse_frames(run.generator(), 4, seed=0, advance=lambda more: None)
    assert [t for t, _ in frames] == [6, 5, 3, 2, 0]
    assert torch.equal(frames[-1][1], run.sample(4, seed=0))
    first = frames[0][1].float() / 127.5 - 1
    # Standard normal noise, clipped at one standard deviation by the range of an image: 32 % of it is outside.
    assert ((first.abs() > 0.99).float().mean() - 0.32).abs() < 0.08


def test_the_forward_process_starts_at_the_images_and_ends_at_noise(small: Recipe, tmp_path: Path) -> None:
    run = ddpmkit.run(small(train={"steps": 2}), tmp_path)
    images = build_images(run.recipe, "train")
    frames = forward_frames(run.generator(), images, 4, seed=0)
    assert [t for t, _ in frames] == [0, 1, 3, 4, 6]
    assert torch.equal(frames[0][1], images.center_crops(evenly_spread(len(images), 4)))
    noise = frames[-1][1].float() / 127.5 - 1
    assert abs(float(np.corrcoef(frames[0][1].flatten(), noise.flatten())[0, 1])) < 0.15
