import json
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from wandb.proto import wandb_internal_pb2

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord
from ddpmkit.errors import InputError
from ddpmkit.sampling.image_grid import grid, save_png
from ddpmkit_plugins.wandb_tracker import WandbConfig
from ddpmkit_plugins.wandb_tracker.tracker import WandbTracker


def started(folder: Path, first_step: int = 0) -> RunStarted:
    return RunStarted("cats", folder, {"train": {"learning_rate": 1e-3}}, 2_450_147, first_step, 20)


def record(step: int, validation_loss: float | None = None) -> StepRecord:
    return StepRecord(step, 1 / step, (0.4, 0.3, None, 0.1), 0.5, 1e-3, 100.0, validation_loss)


def a_run(folder: Path, config: WandbConfig, first_step: int = 0) -> None:
    tracker = WandbTracker(config, run_folder=folder)
    tracker.run_started(started(folder, first_step))
    for step in (first_step + 10, first_step + 20):
        tracker.step(record(step, 0.25 if step % 20 == 0 else None))
    path = save_png(grid(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)), folder / "samples.png")
    for name in ("samples", "forward", "reverse"):
        tracker.picture(Picture(first_step + 20, name, path))  # type: ignore[arg-type]
    values, floor = {"fid": 94.66}, {"fid": 3.5}
    tracker.scores(Scores(first_step + 20, "clean-fid", "standard", True, 10, 20, values, floor, {"fid": "lower"}))
    tracker.run_ended(RunEnded(first_step + 20, "finished"))


def records(file: Path) -> Iterator[Any]:
    """What the package wrote: records of its own protocol in the framing of LevelDB's log.

    https://github.com/google/leveldb/blob/main/doc/log_format.md, after a header of 7 bytes.
    """
    content, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
        _, length, kind = struct.unpack_from("<IHB", content, place)
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a full record, or the last part of one
            found = wandb_internal_pb2.Record()
            found.ParseFromString(whole)
            yield found
            whole = b""


def records_of(folder: Path, kind: str) -> Iterator[Any]:
    """All records of one kind in all files of a run."""
    wandb.teardown()  # the service flushes a file only after `finish` has returned
    for file in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb")):
        for found in records(file):
            if found.WhichOneof("record_type") == kind:
                yield getattr(found, kind)


def rows(folder: Path) -> list[dict[str, Any]]:
    """All logged values, by row."""
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in found.item}
        for found in records_of(folder, "history")
    ]


def history(folder: Path) -> dict[int, dict[str, Any]]:
    """All logged values, by wandb's own step."""
    steps: dict[int, dict[str, Any]] = {}
    for row in rows(folder):
        steps.setdefault(row["_step"], {}).update(row)
    return steps


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings that a user sees; wandb's own log goes to a file."""
    return [found.getMessage() for found in caplog.records if not found.name.startswith("wandb")]


@pytest.fixture
def logged_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without a login, with an unreachable server and a wandb service of its own."""
    wandb.teardown()  # a service started earlier remembers the environment of that time
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    yield
    wandb.teardown()


@pytest.mark.usefixtures("logged_out")
def test_a_real_offline_run_contains_all_events(tmp_path: Path) -> None:
    a_run(tmp_path, WandbConfig(mode="offline", project="afhq", tags=("t50",)))
    steps = history(tmp_path)
    assert sorted(steps) == [10, 20]
    assert steps[10]["loss"] == pytest.approx(0.1)
    assert steps[20]["loss"] == pytest.approx(0.05)
    assert "validation_loss" not in steps[10]
    assert steps[20]["validation_loss"] == 0.25
    assert steps[20]["learning_rate"] == 1e-3
    quarters = {key: value for key, value in steps[20].items() if key.startswith("loss/")}
    assert quarters == {"loss/t_q1": 0.4, "loss/t_q2": 0.3, "loss/t_q4": 0.1}
    assert (steps[20]["clean-fid/fid"], steps[20]["clean-fid/fid_floor"]) == (94.66, 3.5)
    for name in ("samples", "forward", "reverse"):
        assert steps[20][f"{name}/_type"] == "image-file"
        (image,) = (tmp_path / "wandb").glob(f"offline-run-*/files/{steps[20][f'{name}/path']}")
        assert image.stat().st_size > 0
    (run,) = records_of(tmp_path, "run")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert (run.project, run.display_name, list(run.tags)) == ("afhq", "cats", ["t50"])
    assert config["train"] == {"learning_rate": 1e-3}
    assert config["parameters"] == 2_450_147


@pytest.mark.usefixtures("logged_out")
def test_the_name_of_the_tracker_overrides_the_recipe_name(tmp_path: Path) -> None:
    a_run(tmp_path, WandbConfig(mode="offline", name="other cats"))
    assert [run.display_name for run in records_of(tmp_path, "run")] == ["other cats"]


@pytest.mark.usefixtures("logged_out")
def test_the_training_step_is_the_x_axis(tmp_path: Path) -> None:
    a_run(tmp_path, WandbConfig(mode="offline"))
    assert {(metric.glob_name or metric.name, metric.step_metric) for metric in records_of(tmp_path, "metric")} >= {
        ("*", "step")
    }
    assert [row["step"] for row in rows(tmp_path)] == [10, 20]


@pytest.mark.usefixtures("logged_out")
def test_steps_that_the_server_already_has_are_sent_again(tmp_path: Path) -> None:
    tracker = WandbTracker(WandbConfig(mode="offline"), run_folder=tmp_path)
    tracker.run_started(started(tmp_path, first_step=10))
    assert tracker._run is not None
    tracker._run.log({"step": 30}, step=30, commit=True)  # the step that a server reports for the run
    for step in (20, 30, 40):
        tracker.step(record(step))
    tracker.run_ended(RunEnded(40, "finished"))
    assert [row["step"] for row in rows(tmp_path)] == [30, 20, 30, 40]
    assert [row["_step"] for row in rows(tmp_path)] == [30, 31, 32, 40]


@pytest.mark.usefixtures("logged_out")
@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("stopped", 0), ("failed", 1)])
def test_only_a_failed_run_is_marked_so(tmp_path: Path, status: str, code: int) -> None:
    tracker = WandbTracker(WandbConfig(mode="offline"), run_folder=tmp_path)
    tracker.run_started(started(tmp_path))
    tracker.run_ended(RunEnded(0, status))  # type: ignore[arg-type]
    assert [end.exit_code for end in records_of(tmp_path, "exit")] == [code]


@pytest.mark.usefixtures("logged_out")
def test_another_wandb_run_of_the_process_is_not_disturbed(tmp_path: Path) -> None:
    own = wandb.init(mode="offline", dir=tmp_path, settings=wandb.Settings(silent=True, console="off"))
    a_run(tmp_path / "run", WandbConfig(mode="offline"))
    own.log({"mine": 1})
    own.finish()
    assert sorted(history(tmp_path / "run")) == [10, 20]
    assert [sorted(key for key in row if not key.startswith("_")) for row in rows(tmp_path)] == [["mine"]]


@pytest.mark.usefixtures("logged_out")
def test_a_resumed_run_stays_one_run(tmp_path: Path) -> None:
    a_run(tmp_path, WandbConfig(mode="offline"))
    a_run(tmp_path, WandbConfig(mode="offline"), first_step=20)
    assert len({file.name for file in (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")}) == 1
    assert sorted(history(tmp_path)) == [10, 20, 30, 40]


@pytest.mark.usefixtures("logged_out")
def test_an_incomplete_run_id_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "wandb" / "run-id"
    file.parent.mkdir()
    file.touch()
    a_run(tmp_path, WandbConfig(mode="offline"))
    assert len(file.read_text()) == 8
    assert list((tmp_path / "wandb").glob(f"offline-run-*/run-{file.read_text()}.wandb")) != []
    assert not list(file.parent.glob("*.partial"))


@pytest.mark.parametrize("name", ["wandb", "wandb/run-id"])
def test_a_link_in_the_run_folder_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").mkdir()
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="may lead outside the run folder"):
        a_run(tmp_path / "run", WandbConfig(mode="offline"))
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.usefixtures("logged_out")
def test_without_a_key_it_continues_offline_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        a_run(tmp_path, WandbConfig(mode="online"))
    assert messages(caplog) == [
        "wandb continues offline: No API key configured. Use `wandb login` to log in. "
        "Run `wandb sync` to upload the run later."
    ]
    assert sorted(history(tmp_path)) == [10, 20]
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("logged_out")
def test_without_a_network_it_continues_offline_after_its_timeout(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with caplog.at_level(logging.WARNING):
        a_run(tmp_path, WandbConfig(mode="online", init_timeout=1.0))
    (message,) = messages(caplog)
    assert message.startswith("wandb continues offline: ")
    assert "deadline exceeded" in message
    assert sorted(history(tmp_path)) == [10, 20]
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("logged_out")
def test_an_invalid_key_does_not_fail_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with caplog.at_level(logging.WARNING):
        a_run(tmp_path, WandbConfig(mode="online"))
    (message,) = messages(caplog)
    assert "40" in message
    assert sorted(history(tmp_path)) == [10, 20]


def test_a_slow_upload_at_the_end_is_left_for_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Stuck:
        dir = str(tmp_path / "run-1" / "files")

        def finish(self, exit_code: int) -> None:
            raise TimeoutError("Timed out finishing run.")

    tracker = WandbTracker(WandbConfig(), run_folder=tmp_path)
    tracker._run = Stuck()  # type: ignore[assignment]
    tracker.run_ended(RunEnded(20, "finished"))
    (message,) = messages(caplog)
    assert f"`wandb sync {tmp_path / 'run-1'}`" in message


@pytest.mark.usefixtures("logged_out")
def test_the_environment_can_choose_offline_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    with caplog.at_level(logging.WARNING):
        a_run(tmp_path, WandbConfig())
    assert messages(caplog) == []
    assert sorted(history(tmp_path)) == [10, 20]


@pytest.mark.usefixtures("logged_out")
def test_the_environment_can_disable_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    a_run(tmp_path, WandbConfig())
    assert history(tmp_path) == {}


def test_disabled_mode_writes_nothing(tmp_path: Path) -> None:
    a_run(tmp_path, WandbConfig(mode="disabled"))
    assert [path.name for path in tmp_path.iterdir()] == ["samples.png"]
