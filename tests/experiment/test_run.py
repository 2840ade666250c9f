import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ddpmkit
from ddpmkit.checkpoint import newest_checkpoint, save_checkpoint
from ddpmkit.data.images import evenly_spread
from ddpmkit.display import SilentDisplay
from ddpmkit.errors import ComponentUnavailable, InputError
from ddpmkit.experiment import Run
from ddpmkit.interrupts import Interrupted
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registry import Registry
from ddpmkit.sampling.visualize import forward_frames, reverse_frames

SMALL: dict[str, Any] = {
    "name": "small",
    "data": {"use": "critters", "image_size": 8, "size": 8, "val_size": 4},
    "diffusion": {"timesteps": 6},
    "backbone": {"dim": 8, "multipliers": [1, 2], "linear_attention_levels": [1], "heads": 1, "head_dim": 8},
    "sampler": {"count": 4, "batch_size": 4},
    "train": {
        "steps": 20,
        "batch_size": 4,
        "log_every": 1,
        "sample_every": 0,
        "checkpoint_every": 0,
        "validate_every": 0,
    },
}


def changed(**sections: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {**SMALL.get(name, {}), **sections.get(name, {})} if name != "name" else SMALL["name"]
        for name in {*SMALL, *sections}
    }


def train(out: Path, steps: int = 20, **keys: Any) -> Run:
    return ddpmkit.run(changed(train={"steps": steps, **keys}), out)


def records(folder: Path, event: str = "step") -> list[dict[str, Any]]:
    """The log without the one number that is a matter of time."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines if line["event"] == event]


def state(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    checkpoint = newest_checkpoint(folder / "checkpoints")
    assert checkpoint is not None
    return {part: checkpoint.tensors(part) for part in ("model", "ema", "optimizer")}


def assert_equal_bits(first: Path, second: Path) -> None:
    one, two = state(first), state(second)
    for part in ("model", "ema", "optimizer"):
        assert one[part].keys() == two[part].keys()
        assert len(one[part]) > 0
        for key, value in one[part].items():
            assert torch.equal(value, two[part][key]), f"{part}: {key}"


class Listening(SilentDisplay):
    def __init__(self) -> None:
        self.remarks: list[str] = []

    def message(self, text: str) -> None:
        self.remarks.append(text)


def test_twenty_steps_are_nine_a_stop_and_eleven_bit_for_bit(tmp_path: Path) -> None:
    train(tmp_path / "straight")
    train(tmp_path / "resumed", steps=9)
    train(tmp_path / "resumed", steps=20)
    assert_equal_bits(tmp_path / "straight", tmp_path / "resumed")
    steps = [record["step"] for record in records(tmp_path / "resumed")]
    assert steps == list(range(1, 21))


def test_a_run_stopped_between_records_writes_the_log_it_would_have_written(tmp_path: Path) -> None:
    recipe = changed(train={"steps": 20, "log_every": 5})
    ddpmkit.run(recipe, tmp_path / "straight")
    calls = iter(range(1000))
    stopped = ddpmkit.run(recipe, tmp_path / "resumed", stop=lambda: next(calls) == 8)
    assert stopped.ended is not None
    assert (stopped.ended.status, stopped.step) == ("stopped", 8)
    finished = ddpmkit.run(recipe, tmp_path / "resumed")
    assert finished.ended is not None
    assert finished.ended.status == "finished"
    assert records(tmp_path / "straight") == records(tmp_path / "resumed")
    assert_equal_bits(tmp_path / "straight", tmp_path / "resumed")


def test_the_same_recipe_twice_gives_the_same_log_and_the_same_pictures(tmp_path: Path) -> None:
    for name in ("first", "second"):
        train(tmp_path / name, steps=6, sample_every=3)
    assert records(tmp_path / "first") == records(tmp_path / "second")
    pictures = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*.png"))
    assert len(pictures) == 2 + 10 + 2  # two grids, five moments of two processes, two strips
    for picture in pictures:
        assert (tmp_path / "first" / picture).read_bytes() == (tmp_path / "second" / picture).read_bytes()


def test_a_finished_run_given_again_changes_nothing(tmp_path: Path) -> None:
    train(tmp_path, steps=3)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = train(tmp_path, steps=3)
    assert again.ended is not None
    assert again.ended.status == "finished"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_was_cut_off_after_the_last_checkpoint_is_made_by_the_same_command(tmp_path: Path) -> None:
    train(tmp_path, steps=3)
    grid = tmp_path / "samples" / "step-00000003.png"
    before = grid.read_bytes()
    grid.unlink()
    (tmp_path / "report.html").unlink()
    train(tmp_path, steps=3)
    assert grid.read_bytes() == before
    assert (tmp_path / "report.html").exists()


def test_a_run_that_goes_on_beyond_its_end_shows_the_new_end_even_if_cut_off_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_arguments: object) -> None:
        raise Interrupted

    train(tmp_path, steps=3)
    strip = tmp_path / "viz" / "backward.png"
    before = strip.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("ddpmkit.experiment.outputs.visualize", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, steps=6)
    train(tmp_path, steps=6)
    assert strip.read_bytes() != before
    assert "6 steps" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("backbone", {"dim": 16}),
        ("schedule", {"use": "linear"}),
        ("loss", {"use": "l2"}),
        ("diffusion", {"prediction": "v"}),
        ("train", {"learning_rate": 0.5}),
        ("train", {"seed": 1}),
    ],
)
def test_a_recipe_that_would_mean_another_model_is_refused_with_the_difference(
    tmp_path: Path, section: str, keys: dict[str, Any]
) -> None:
    train(tmp_path, steps=2)
    (key,) = keys
    with pytest.raises(InputError, match="another recipe") as caught:
        ddpmkit.run(changed(**{section: {**({"steps": 4} if section == "train" else {}), **keys}}), tmp_path)
    assert f"{section}.{key}" in str(caught.value)
    assert "--out" in str(caught.value)


def test_a_recipe_that_only_looks_more_often_goes_on_and_says_what_changed(tmp_path: Path) -> None:
    train(tmp_path, steps=2)
    listening = Listening()
    ddpmkit.run(changed(train={"steps": 4, "sample_every": 2}), tmp_path, display=listening)
    assert any("train.steps" in remark for remark in listening.remarks)
    assert any("train.sample_every" in remark for remark in listening.remarks)


def test_other_images_under_the_same_name_are_refused(tmp_path: Path) -> None:
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 12, 3)).astype(np.uint8)
        path = tmp_path / "data" / "train" / "cat" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    recipe = {**SMALL, "data": {"use": "image-folder", "root": str(tmp_path / "data"), "image_size": 8}}
    recipe["train"] = {**SMALL["train"], "steps": 1}
    ddpmkit.run(recipe, tmp_path / "run")
    Image.fromarray(255 - pixels).save(path)
    recipe["train"] = {**SMALL["train"], "steps": 2}
    with pytest.raises(InputError, match="training images are not those"):
        ddpmkit.run(recipe, tmp_path / "run")


@pytest.mark.parametrize(("changed", "left"), [("deleted", 2), ("all deleted", 0), ("replaced", 3)])
def test_other_validation_images_are_noticed_and_written_down(tmp_path: Path, changed: str, left: int) -> None:
    for place in ("train/cat/0", "train/cat/1", "val/cat/0", "val/cat/1", "val/cat/2"):
        pixels = np.random.default_rng(sum(place.encode())).integers(0, 256, (12, 12, 3)).astype(np.uint8)
        path = tmp_path / "data" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    recipe = {**SMALL, "data": {"use": "image-folder", "root": str(tmp_path / "data"), "image_size": 8}}
    recipe["train"] = {**SMALL["train"], "steps": 1}
    ddpmkit.run(recipe, tmp_path / "run")
    recipe["train"] = {**SMALL["train"], "steps": 2}
    if changed == "replaced":
        Image.fromarray(255 - pixels).save(path)
    else:
        for file in [path] if changed == "deleted" else path.parent.iterdir():
            file.unlink()
    remarks: list[str] = []

    class Listening(SilentDisplay):
        def message(self, text: str) -> None:
            remarks.append(text)

    run = ddpmkit.run(recipe, tmp_path / "run", display=Listening())
    told = f"the validation images: 3 then, {left} now"
    assert f"changed since the last start: {told}" in remarks
    (incident,) = [json.loads(line) for line in (tmp_path / "run" / "incidents.jsonl").read_text().splitlines()]
    assert (incident["step"], incident["changes"]) == (1, ["train.steps: 1 -> 2", told])
    # Then it is the state of things, and no longer news.
    assert f"validation_images = {left}" in run.checkpoint.lock.read_text()
    remarks.clear()
    recipe["train"] = {**SMALL["train"], "steps": 3}
    ddpmkit.run(recipe, tmp_path / "run", display=Listening())
    assert not any("the validation images: " in remark for remark in remarks)


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_a_run_may_move_from_a_folder_to_its_archive(tmp_path: Path, kind: str) -> None:
    for place in ("train/cat/0", "train/cat/1", "train/dog/0", "val/dog/0"):
        pixels = np.random.default_rng(len(place)).integers(0, 256, (12, 12, 3)).astype(np.uint8)
        path = tmp_path / "pets" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    folder = {"use": "image-folder", "root": str(tmp_path / "pets"), "image_size": 8}
    archive = shutil.make_archive(str(tmp_path / "pets"), kind, tmp_path / "pets")
    packed = {"use": "image-archive", "path": archive, "image_size": 8}

    def recipe(data: dict[str, Any], steps: int) -> dict[str, Any]:
        return {**SMALL, "data": data, "train": {**SMALL["train"], "steps": steps}}

    straight = ddpmkit.run(recipe(folder, 2), tmp_path / "straight")
    ddpmkit.run(recipe(folder, 1), tmp_path / "moved")
    moved = ddpmkit.run(recipe(packed, 2), tmp_path / "moved")
    assert torch.equal(moved.sample(2, seed=0), straight.sample(2, seed=0))
    (incident,) = [json.loads(line) for line in (tmp_path / "moved" / "incidents.jsonl").read_text().splitlines()]
    assert 'data.use: "image-folder" -> "image-archive"' in incident["changes"]
    # Another dataset is known by its images, whatever it is called.
    with pytest.raises(InputError, match="training images are not those"):
        ddpmkit.run(recipe({"use": "critters", "image_size": 8, "size": 8, "val_size": 4}, 3), tmp_path / "moved")


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
def test_every_kind_of_picture_and_prediction_runs_to_its_end(
    tmp_path: Path, data: dict[str, Any], diffusion: dict[str, Any]
) -> None:
    run = ddpmkit.run(changed(data=data, diffusion=diffusion, train={"steps": 2, "accumulate": 2}), tmp_path)
    shape = run.recipe.data.settings.image_shape
    assert run.sample(3).shape == (3, *shape)
    assert (tmp_path / "report.html").exists()
    assert len(list((tmp_path / "viz").glob("*.png"))) == 12
    assert [record["validation_loss"] is not None for record in records(tmp_path)] == [False, True]


def test_parts_are_swapped_by_one_key_each(tmp_path: Path) -> None:
    recipe = changed(
        schedule={"use": "linear"}, loss={"use": "huber"}, sampler={"use": "ddim", "steps": 3}, train={"steps": 2}
    )
    run = ddpmkit.run(recipe, tmp_path)
    assert run.sample(2).shape == (2, 3, 8, 8)


def test_the_reverse_process_goes_from_pure_noise_to_what_sample_gives(tmp_path: Path) -> None:
    run = train(tmp_path, steps=2)
    frames = reverse_frames(run.generator(), 4, seed=0, advance=lambda more: None)
    assert [t for t, _ in frames] == [6, 5, 3, 2, 0]
    assert torch.equal(frames[-1][1], run.sample(4, seed=0))
    first = frames[0][1].float() / 127.5 - 1
    # Standard normal noise, cut off at one standard deviation by the range of a picture: 32 % of it lies outside.
    assert ((first.abs() > 0.99).float().mean() - 0.32).abs() < 0.08


def test_the_forward_process_goes_from_the_images_to_noise(tmp_path: Path) -> None:
    run = train(tmp_path, steps=2)
    images = ddpmkit.experiment.build.build_images(run.recipe, "train")
    frames = forward_frames(run.generator(), images, 4, seed=0)
    assert [t for t, _ in frames] == [0, 1, 3, 4, 6]
    assert torch.equal(frames[0][1], images.center_crops(evenly_spread(len(images), 4)))
    noise = frames[-1][1].float() / 127.5 - 1
    assert abs(float(np.corrcoef(frames[0][1].flatten(), noise.flatten())[0, 1])) < 0.15


def test_a_checkpoint_alone_can_be_sampled(tmp_path: Path) -> None:
    run = train(tmp_path / "run", steps=2)
    expected = run.sample(3, seed=5)
    alone = tmp_path / "elsewhere" / "copy"
    shutil.copytree(run.checkpoint.path, alone)
    shutil.rmtree(tmp_path / "run")
    assert torch.equal(ddpmkit.load(alone).sample(3, seed=5), expected)


def test_weights_of_another_network_are_said_to_be_that(tmp_path: Path) -> None:
    train(tmp_path, steps=1)
    (folder,) = (tmp_path / "checkpoints").iterdir()
    lock = folder.parent.parent / "recipe.lock.toml"
    lock.write_text(lock.read_text().replace("dim = 8", "dim = 16"))
    other = save_checkpoint(folder.parent, 2, {"model": ddpmkit.load(tmp_path).checkpoint.tensors("model")}, lock)
    with pytest.raises(InputError, match=r"do not fit the network; the first of \d+ differences: size mismatch"):
        ddpmkit.load(other.path).sample(1)


def test_a_run_that_accepts_changes_goes_on_and_writes_them_down(tmp_path: Path) -> None:
    train(tmp_path, steps=2)
    lower = changed(train={"steps": 4, "learning_rate": 1e-5})
    with pytest.raises(InputError, match="learning_rate") as refused:
        ddpmkit.run(lower, tmp_path)
    assert "--accept-changes" in str(refused.value)
    assert ddpmkit.run(lower, tmp_path, accept_changes=True).step == 4
    (line,) = (tmp_path / "incidents.jsonl").read_text().splitlines()
    assert json.loads(line)["changes"] == ["train.learning_rate: 0.001 -> 1e-05", "train.steps: 2 -> 4"]
    other_images = changed(train={"steps": 6, "learning_rate": 1e-5}, data={"seed": 5})
    with pytest.raises(InputError, match="not those") as refused:
        ddpmkit.run(other_images, tmp_path)
    assert "--accept-changes" in str(refused.value)
    assert ddpmkit.run(other_images, tmp_path, accept_changes=True).step == 6
    with pytest.raises(InputError, match="schedule") as refused:
        ddpmkit.run({**lower, "schedule": {"use": "linear"}}, tmp_path, accept_changes=True)
    assert "--accept-changes" not in str(refused.value)


def test_averaged_and_raw_weights_are_both_to_be_had(tmp_path: Path) -> None:
    run = train(tmp_path, steps=5, learning_rate=0.01)
    assert not torch.equal(run.sample(2, weights="raw"), run.sample(2, weights="ema"))
    assert torch.equal(run.sample(2), run.sample(2, weights="ema"))


def test_weights_can_be_looked_at_by_other_parts_but_not_by_another_process(tmp_path: Path) -> None:
    run = train(tmp_path, steps=2)
    other = ddpmkit.load(tmp_path, overrides=["sampler.use=ddim"])
    assert not torch.equal(other.sample(2), run.sample(2))
    assert torch.equal(
        other.sample(2, steps=3), ddpmkit.load(tmp_path, overrides=["sampler.use=ddim"]).sample(2, steps=3)
    )
    with pytest.raises(InputError, match=r'schedule\.use: "cosine" -> "linear"'):
        ddpmkit.load(tmp_path, overrides=["schedule.use=linear"])


@pytest.mark.parametrize(("path", "fault"), [("nowhere", "nowhere does not exist"), (".", "holds no checkpoint")])
def test_a_folder_without_a_run_is_named(tmp_path: Path, path: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        ddpmkit.load(tmp_path / path)


def test_more_steps_than_the_process_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="steps must be a whole number from 1 to 6, not 7"):
        train(tmp_path, steps=1).sample(1, steps=7)


class Offline:
    def __init__(self, config: ComponentConfig, *, device: torch.device) -> None:
        raise ComponentUnavailable("its network cannot be had", remedies=["--skip-unavailable-metrics"])


def test_a_metric_that_cannot_work_is_said_before_training_and_can_be_skipped(tmp_path: Path) -> None:
    offline = Component(kind="metric", name="offline", target=f"{__name__}:Offline", summary="needs what is not here")
    installed = [entry for entries in discover().registry().components.values() for entry in entries.values()]
    registry = Registry.from_components([*installed, offline])
    recipe = {**changed(train={"steps": 1}), "metric": [{"use": "local/offline"}]}
    with pytest.raises(ComponentUnavailable, match="cannot be had"):
        ddpmkit.run(recipe, tmp_path / "run", registry=registry)
    assert not (tmp_path / "run").exists()
    listening = Listening()
    ddpmkit.run(recipe, tmp_path / "run", registry=registry, skip_unavailable_metrics=True, display=listening)
    assert any("skipped metric 'local/offline'" in remark for remark in listening.remarks)
