"""Which runs are resumed, which are rejected, and what is shown of the changes since the last checkpoint."""

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from runs import incidents

import ddpmkit
from ddpmkit.checkpoint import save_checkpoint
from ddpmkit.errors import InputError
from ddpmkit.recipe import read_lock

Recipe = Callable[..., dict[str, Any]]
Messages = Callable[[], list[str]]

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
def messages(caplog: pytest.LogCaptureFixture) -> Messages:
    """The messages of a run without a display since the last call; a silent display logs them."""
    caplog.set_level(logging.INFO, logger="ddpmkit.display")

    def take() -> list[str]:
        found = [record.getMessage() for record in caplog.records if record.name == "ddpmkit.display"]
        caplog.clear()
        return found

    return take


def write_images(folder: Path, *names: str) -> None:
    """Write a random image for each name, the same each time."""
    for name in names:
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(sum(name.encode())).integers(0, 256, (12, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)


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
def test_a_recipe_of_another_model_is_rejected_with_the_difference(
    small: Recipe, tmp_path: Path, section: str, keys: dict[str, Any]
) -> None:
    ddpmkit.run(small(train={"steps": 2}), tmp_path)
    (key,) = keys
    sections = {"train": {"steps": 4}, section: {**({"steps": 4} if section == "train" else {}), **keys}}
    with pytest.raises(InputError, match="another recipe") as caught:
        ddpmkit.run(small(**sections), tmp_path)
    assert f"{section}.{key}" in str(caught.value)
    assert "--out" in str(caught.value)


def test_fewer_steps_than_already_taken_are_rejected(small: Recipe, tmp_path: Path) -> None:
    ddpmkit.run(small(train={"steps": 2}), tmp_path)
    with pytest.raises(InputError, match=r"train\.steps = 1 is lower than the step already reached: .* is at step 2"):
        ddpmkit.run(small(train={"steps": 1}), tmp_path)


def test_changed_intervals_are_shown_and_the_run_resumes(small: Recipe, messages: Messages, tmp_path: Path) -> None:
    ddpmkit.run(small(train={"steps": 2}), tmp_path)
    messages()
    ddpmkit.run(small(train={"steps": 4, "sample_every": 2}), tmp_path)
    shown = messages()
    assert any("train.steps" in text for text in shown)
    assert any("train.sample_every" in text for text in shown)
    assert f"resuming from {tmp_path / 'checkpoints' / 'step-00000002'}" in shown


def test_other_images_under_the_same_name_are_rejected(small: Recipe, tmp_path: Path) -> None:
    write_images(tmp_path / "data", *(f"train/cat/{number}" for number in range(4)))
    data = {"use": "image-folder", "root": str(tmp_path / "data"), "image_size": 8}
    ddpmkit.run(small(data=data, train={"steps": 1}), tmp_path / "run")
    Image.new("RGB", (12, 12)).save(tmp_path / "data" / "train" / "cat" / "3.png")
    with pytest.raises(InputError, match="training images differ from those"):
        ddpmkit.run(small(data=data, train={"steps": 2}), tmp_path / "run")


@pytest.mark.parametrize(("change", "left"), [("one deleted", 2), ("all deleted", 0), ("replaced", 3)])
def test_changed_validation_images_are_shown_and_recorded_once(
    small: Recipe, messages: Messages, tmp_path: Path, change: str, left: int
) -> None:
    write_images(tmp_path / "data", "train/cat/0", "train/cat/1", "val/cat/0", "val/cat/1", "val/cat/2")
    data = {"use": "image-folder", "root": str(tmp_path / "data"), "image_size": 8}
    ddpmkit.run(small(data=data, train={"steps": 1}), tmp_path / "run")
    image = tmp_path / "data" / "val" / "cat" / "2.png"
    if change == "replaced":
        Image.new("RGB", (12, 12)).save(image)
    else:
        for file in [image] if change == "one deleted" else list(image.parent.iterdir()):
            file.unlink()
    messages()
    run = ddpmkit.run(small(data=data, train={"steps": 2}), tmp_path / "run")
    text = f"the validation images: 3 then, {left} now"
    assert f"changed since the last checkpoint: {text}" in messages()
    (incident,) = incidents(tmp_path / "run")
    assert (incident["step"], incident["changes"]) == (1, ["train.steps: 1 -> 2", text])
    assert f"validation_images = {left}" in run.checkpoint.lock.read_text()
    ddpmkit.run(small(data=data, train={"steps": 3}), tmp_path / "run")
    assert not any("the validation images: " in text for text in messages())


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_a_run_may_move_from_a_folder_to_an_archive_of_it(small: Recipe, tmp_path: Path, kind: str) -> None:
    write_images(tmp_path / "pets", "train/cat/0", "train/cat/1", "train/dog/0", "val/dog/0")
    folder = {"use": "image-folder", "root": str(tmp_path / "pets"), "image_size": 8}
    archive = shutil.make_archive(str(tmp_path / "pets"), kind, tmp_path / "pets")
    packed = {"use": "image-archive", "path": archive, "image_size": 8}
    straight = ddpmkit.run(small(data=folder, train={"steps": 2}), tmp_path / "straight")
    ddpmkit.run(small(data=folder, train={"steps": 1}), tmp_path / "moved")
    moved = ddpmkit.run(small(data=packed, train={"steps": 2}), tmp_path / "moved")
    assert torch.equal(moved.sample(2, seed=0), straight.sample(2, seed=0))
    (incident,) = incidents(tmp_path / "moved")
    assert 'data.use: "image-folder" -> "image-archive"' in incident["changes"]
    # A dataset is identified by its images, under any name.
    with pytest.raises(InputError, match="training images differ from those"):
        ddpmkit.run(small(train={"steps": 3}), tmp_path / "moved")


def test_accepted_changes_are_recorded(small: Recipe, tmp_path: Path) -> None:
    ddpmkit.run(small(train={"steps": 2}), tmp_path)
    lower = small(train={"steps": 4, "learning_rate": 1e-5})
    with pytest.raises(InputError, match="learning_rate") as refused:
        ddpmkit.run(lower, tmp_path)
    assert "--accept-changes" in str(refused.value)
    assert ddpmkit.run(lower, tmp_path, accept_changes=True).step == 4
    (incident,) = incidents(tmp_path)
    assert incident["changes"] == ["train.learning_rate: 0.001 -> 1e-05", "train.steps: 2 -> 4"]
    other_images = small(train={"steps": 6, "learning_rate": 1e-5}, data={"seed": 5})
    with pytest.raises(InputError, match="differ from those") as refused:
        ddpmkit.run(other_images, tmp_path)
    assert "--accept-changes" in str(refused.value)
    assert ddpmkit.run(other_images, tmp_path, accept_changes=True).step == 6
    with pytest.raises(InputError, match="schedule") as refused:
        ddpmkit.run({**lower, "schedule": {"use": "linear"}}, tmp_path, accept_changes=True)
    assert "--accept-changes" not in str(refused.value)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A schedule in a file, as `--plugin` loads it."""
    monkeypatch.chdir(tmp_path)
    Path("zigzag.py").write_text(ZIGZAG)
    return Path("zigzag.py")


@pytest.fixture
def by_plugin(small: Recipe) -> Recipe:
    """The small recipe with the schedule of the plugin."""
    return lambda steps: small(schedule={"use": "local/zigzag"}, train={"steps": steps})


def test_a_run_with_a_plugin_file_can_be_started_and_opened_in_python(plugin: Path, by_plugin: Recipe) -> None:
    assert ddpmkit.read_recipe(by_plugin(1), plugins=[plugin]).schedule.component.use == "local/zigzag"
    ddpmkit.run(by_plugin(1), "run", plugins=["zigzag.py"])
    assert ddpmkit.load("run", plugins=[plugin]).sample(1).shape == (1, 3, 8, 8)


def test_a_changed_plugin_file_triggers_a_warning(plugin: Path, by_plugin: Recipe, messages: Messages) -> None:
    before = ddpmkit.run(by_plugin(1), "run", plugins=[plugin]).recipe.schedule.component.plugin.version
    plugin.write_text(ZIGZAG + "# a comment\n")
    run = ddpmkit.run(by_plugin(2), "run", plugins=[plugin])
    change = f"zigzag.py: {before} -> {run.recipe.schedule.component.plugin.version}"
    (warning,) = (text for text in messages() if change in text)
    assert "may differ from those of an uninterrupted run" in warning
    assert incidents(Path("run"))[0]["changes"] == ["train.steps: 1 -> 2", change]


def test_another_version_triggers_one_warning_with_both(
    small: Recipe, messages: Messages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ddpmkit.run(small(train={"steps": 1}), tmp_path)
    monkeypatch.setattr("platform.python_version", lambda: "99.1")
    messages()
    ddpmkit.run(small(train={"steps": 2}), tmp_path)
    (warning,) = (text for text in messages() if "python: " in text)
    assert " -> 99.1; the run continues" in warning
    ddpmkit.run(small(train={"steps": 2}), tmp_path)
    assert not any("warning" in text for text in messages())


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """torch's function, whose effect is undone."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_another_number_of_threads_triggers_one_warning(
    small: Recipe, messages: Messages, tmp_path: Path, set_threads: Callable[[int], None]
) -> None:
    """Each thread adds up a part of a sum, so 1 and 2 threads round differently: the resume is not exact."""
    warnings = {}
    for steps, count in ((1, 2), (2, 2), (3, 1), (4, 1)):
        set_threads(count)
        run = ddpmkit.run(small(train={"steps": steps}), tmp_path)
        warnings[steps] = [text for text in messages() if "warning" in text]
        assert read_lock(run.folder.lock).provenance.arithmetic["threads"] == str(count)
    assert warnings[1] == warnings[2] == warnings[4] == []
    (warning,) = warnings[3]
    assert "threads: 2 -> 1" in warning
    assert "OMP_NUM_THREADS" in warning
    assert "threads: 2 -> 1" in incidents(tmp_path)[1]["changes"]


def test_a_lock_file_without_the_number_of_threads_triggers_no_warning(
    small: Recipe, messages: Messages, tmp_path: Path
) -> None:
    """Earlier versions wrote such lock files."""
    run = ddpmkit.run(small(train={"steps": 1}), tmp_path)
    lines = run.folder.lock.read_text().splitlines(True)
    old = [line for line in lines if not line.startswith("arithmetic = ")]
    assert len(old) == len(lines) - 1
    run.folder.lock.write_text("".join(old))
    parts = {name: run.checkpoint.tensors(name) for name in ("model", "ema", "optimizer", "progress")}
    save_checkpoint(run.folder.checkpoints, 1, parts, run.folder.lock)
    messages()
    assert ddpmkit.run(small(train={"steps": 2}), tmp_path).step == 2
    assert not any("warning" in text for text in messages())


@pytest.mark.parametrize("accept_changes", [False, True])
def test_a_run_whose_seed_means_other_random_numbers_is_not_resumed(
    small: Recipe, tmp_path: Path, accept_changes: bool
) -> None:
    """The lock files of the first version contain no `randomness`."""
    run = ddpmkit.run(small(train={"steps": 1}), tmp_path)
    lines = run.folder.lock.read_text().splitlines(True)
    old = [line for line in lines if not line.startswith("randomness = ")]
    assert len(old) == len(lines) - 1
    run.folder.lock.write_text("".join(old))
    parts = {name: run.checkpoint.tensors(name) for name in ("model", "ema", "optimizer", "progress")}
    save_checkpoint(run.folder.checkpoints, 1, parts, run.folder.lock)
    with pytest.raises(InputError, match=r"train\.seed = 0 means other random numbers \(version 1 then, 2 now\)"):
        ddpmkit.run(small(train={"steps": 2}), tmp_path, accept_changes=accept_changes)
    assert ddpmkit.run(small(train={"steps": 1}), tmp_path).step == 1, "a finished run needs no random numbers"
    assert len(ddpmkit.load(tmp_path).sample(2)) == 2


def test_a_run_trained_with_another_alpha_bar_is_neither_resumed_nor_sampled(plugin: Path, by_plugin: Recipe) -> None:
    ddpmkit.run(by_plugin(1), "run", plugins=[plugin])
    plugin.write_text(ZIGZAG.replace("** 2", "** 3"))
    lock = Path("run/recipe.lock.toml").read_text()
    for again in (
        lambda: ddpmkit.run(by_plugin(2), "run", plugins=[plugin], accept_changes=True),
        lambda: ddpmkit.load("run", plugins=[plugin]),
    ):
        with pytest.raises(InputError, match="another alpha_bar than schedule 'local/zigzag'") as caught:
            again()
        assert "restore zigzag.py as it was" in str(caught.value)
        assert "run `ddpmkit run RECIPE --out DIR` to start another run" in str(caught.value)
    assert Path("run/recipe.lock.toml").read_text() == lock
    assert [folder.name for folder in Path("run/checkpoints").iterdir()] == ["step-00000001"]


def test_a_lock_file_without_alpha_bar_can_be_opened(plugin: Path, by_plugin: Recipe) -> None:
    """Earlier versions wrote such lock files."""
    run = ddpmkit.run(by_plugin(1), "run", plugins=[plugin])
    old = "".join(line for line in run.folder.lock.read_text().splitlines(True) if "alpha_bar_fing" not in line)
    run.folder.lock.write_text(old)
    parts = {name: run.checkpoint.tensors(name) for name in ("model", "ema", "optimizer")}
    save_checkpoint(run.folder.checkpoints, 1, parts, run.folder.lock)
    plugin.write_text(ZIGZAG.replace("** 2", "** 3"))
    assert ddpmkit.load("run", plugins=[plugin]).step == 1
