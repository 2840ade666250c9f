"""The events that the tracker writes, read with TensorBoard's own reader."""

import io
import itertools
import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord
from ddpmkit.errors import InputError
from ddpmkit.plugin import ComponentConfig
from ddpmkit_plugins.tensorboard_tracker.tracker import TensorboardTracker


@pytest.fixture(autouse=True)
def _later_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Event files are read in the order of their names, which contain the second: no two of a test share one."""
    seconds = itertools.count(1_700_000_000, 10)
    monkeypatch.setattr(time, "time", lambda: float(next(seconds)))


def started(folder: Path, first_step: int = 0) -> TensorboardTracker:
    tracker = TensorboardTracker(ComponentConfig(), run_folder=folder)
    recipe = {"train": {"learning_rate": 1e-3}, "data": {"classes": ["cat <b>", "h\u00e9"]}}
    tracker.run_started(RunStarted("cats", folder, recipe, 2_450_147, first_step, 40))
    return tracker


def record(step: int, loss: float = 0.5, validation_loss: float | None = None) -> StepRecord:
    return StepRecord(step, loss, (0.4, 0.3, None, 0.1), 0.25, 1e-3, 100.0, validation_loss)


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={TENSORS: 0})
    return found.Reload()


def series(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, pytest.approx(event.value)) for event in read(folder).Scalars(tag)]


def picture(folder: Path) -> tuple[Path, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 14, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "samples.png")
    return folder / "samples.png", pixels


def test_every_number_of_a_record_is_a_curve(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    tracker.step(record(10, 0.5))
    tracker.step(record(20, 0.25, validation_loss=0.75))
    tracker.run_ended(RunEnded(20, "finished"))
    assert series(tmp_path, "loss") == [(10, 0.5), (20, 0.25)]
    assert series(tmp_path, "validation_loss") == [(20, 0.75)]
    assert series(tmp_path, "gradient_norm") == [(10, 0.25), (20, 0.25)]
    assert series(tmp_path, "learning_rate") == [(10, 1e-3), (20, 1e-3)]
    assert series(tmp_path, "images_per_second") == [(10, 100.0), (20, 100.0)]
    assert [series(tmp_path, f"loss/t_q{number}")[0] for number in (1, 2, 4)] == [(10, 0.4), (10, 0.3), (10, 0.1)]
    assert "loss/t_q3" not in read(tmp_path).Tags()["scalars"]


def test_scores_are_written_with_their_floors(tmp_path: Path) -> None:
    scores = Scores(20, "clean-fid", "standard", True, 10, 20, {"fid": 94.66}, {"fid": 3.5}, {"fid": "lower"})
    started(tmp_path).scores(scores)
    assert series(tmp_path, "clean-fid/fid") == [(20, 94.66)]
    assert series(tmp_path, "clean-fid/fid_floor") == [(20, 3.5)]


def test_images_are_written_pixel_for_pixel(tmp_path: Path) -> None:
    path, pixels = picture(tmp_path)
    tracker = started(tmp_path)
    for name in ("samples", "forward", "reverse"):
        tracker.picture(Picture(20, name, path))  # type: ignore[arg-type]
    found = read(tmp_path)
    assert sorted(found.Tags()["images"]) == ["forward", "reverse", "samples"]
    (image,) = found.Images("samples")
    assert (image.step, image.height, image.width) == (20, 10, 14)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.encoded_image_string))), pixels)


def test_the_recipe_is_written_as_text(tmp_path: Path) -> None:
    started(tmp_path)
    (event,) = read(tmp_path).Tensors("recipe/text_summary")
    lines = event.tensor_proto.string_val[0].decode().splitlines()
    assert all(line.startswith("    ") for line in lines)  # which Markdown shows as it is
    assert json.loads("\n".join(lines)) == {
        "name": "cats",
        "parameters": 2_450_147,
        "train": {"learning_rate": 1e-3},
        "data": {"classes": ["cat <b>", "h\u00e9"]},
    }


def test_every_event_is_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    tracker.step(record(10))
    assert series(tmp_path, "loss") == [(10, 0.5)]
    tracker.picture(Picture(10, "samples", picture(tmp_path)[0]))
    assert [event.step for event in read(tmp_path).Images("samples")] == [10]
    tracker.run_ended(RunEnded(10, "stopped"))


def test_a_resumed_run_removes_only_events_after_its_checkpoint(tmp_path: Path) -> None:
    path, _ = picture(tmp_path)
    first = started(tmp_path)
    for step in (10, 20, 30):
        first.step(record(step, loss=1.0))
        first.picture(Picture(step, "samples", path))
    second = started(tmp_path, first_step=20)  # the first was killed
    for step in (30, 40):
        second.step(record(step, loss=2.0))
        second.picture(Picture(step, "samples", path))
    second.run_ended(RunEnded(40, "finished"))
    assert series(tmp_path, "loss") == [(10, 1.0), (20, 1.0), (30, 2.0), (40, 2.0)]
    assert [event.step for event in read(tmp_path).Images("samples")] == [10, 20, 30, 40]
    assert [path.name for path in (tmp_path / "tensorboard").iterdir() if "tfevents" not in path.name] == []


def test_a_restarted_run_removes_the_earlier_attempt(tmp_path: Path) -> None:
    started(tmp_path).step(record(10, loss=1.0))
    started(tmp_path).step(record(10, loss=2.0))
    assert series(tmp_path, "loss") == [(10, 2.0)]
    # The reader of TensorBoard's page; the other one takes back no text.
    shown = plugin_event_accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {tag: [event.step for event in shown.Tensors(tag)] for tag in ("recipe/text_summary", "loss")} == {
        "recipe/text_summary": [0],
        "loss": [10],
    }


def test_a_rollback_removes_the_points_after_its_checkpoint(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    for step in (10, 20, 30):
        tracker.step(record(step, loss=1.0))
    tracker.step(record(20, loss=2.0))
    assert series(tmp_path, "loss") == [(10, 1.0), (20, 2.0)]


def test_events_after_the_end_are_ignored(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    tracker.run_ended(RunEnded(0, "failed"))
    tracker.picture(Picture(0, "samples", tmp_path / "nowhere.png"))
    tracker.run_ended(RunEnded(0, "failed"))


def test_a_folder_that_is_a_link_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="is a link"):
        started(tmp_path / "run")
    assert list((tmp_path / "outside").iterdir()) == []
