import json
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from wandb.proto import wandb_internal_pb2

from ddpmkit.contracts import Picture, RunEnded, RunStarted, Scores, StepRecord
from ddpmkit.sampling.pictures import grid, save_png
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


def history(folder: Path) -> dict[int, dict[str, Any]]:
    """Everything logged, by step, over all the files of a run."""
    steps: dict[int, dict[str, Any]] = {}
    for file in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb")):
        for found in records(file):
            if found.WhichOneof("record_type") == "history":
                values = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in found.history.item
                }
                steps.setdefault(values["_step"], {}).update(values)
    return steps


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nobody ever logged in, and a server that is not there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nobody")
def test_a_real_offline_run_holds_what_was_told(tmp_path: Path) -> None:
    a_run(tmp_path, WandbConfig(mode="offline", project="afhq", tags=("t50",)))
    steps = history(tmp_path)
    assert sorted(steps) == [10, 20]
    assert steps[10]["loss"] == pytest.approx(0.1)
    assert steps[20]["loss"] == pytest.approx(0.05)
    assert "validation_loss" not in steps[10]
    assert steps[20]["validation_loss"] == 0.25
    assert steps[20]["learning_rate"] == 1e-3
    assert {key for key in steps[20] if key.startswith("loss_by_quarter")} == {
        f"loss_by_quarter/{n}" for n in (1, 2, 4)
    }
    assert (steps[20]["clean-fid/fid"], steps[20]["clean-fid/fid_floor"]) == (94.66, 3.5)
    for name in ("samples", "forward", "reverse"):
        assert steps[20][f"{name}/_type"] == "image-file"
        (picture,) = (tmp_path / "wandb").glob(f"offline-run-*/files/{steps[20][f'{name}/path']}")
        assert picture.stat().st_size > 0
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    run = next(found.run for found in records(file) if found.WhichOneof("record_type") == "run")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert (run.project, run.display_name, list(run.tags)) == ("afhq", "cats", ["t50"])
    assert config["train"] == {"learning_rate": 1e-3}
    assert config["parameters"] == 2_450_147


@pytest.mark.usefixtures("nobody")
def test_a_run_that_is_gone_on_with_stays_one_run(tmp_path: Path) -> None:
    a_run(tmp_path, WandbConfig(mode="offline"))
    a_run(tmp_path, WandbConfig(mode="offline"), first_step=20)
    assert len({file.name for file in (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")}) == 1
    assert sorted(history(tmp_path)) == [10, 20, 30, 40]


@pytest.mark.usefixtures("nobody")
def test_without_a_key_it_goes_on_offline_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        a_run(tmp_path, WandbConfig(mode="online"))
    assert [message for message in caplog.messages if "wandb" in message] == [
        "wandb goes on offline: there is no API key (`wandb login` sets one). `wandb sync` uploads the run later."
    ]
    assert sorted(history(tmp_path)) == [10, 20]
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("nobody")
def test_without_a_network_it_goes_on_offline_after_its_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password " + "0" * 40 + "\n")
    (tmp_path / ".netrc").chmod(0o600)
    with caplog.at_level(logging.WARNING):
        a_run(tmp_path, WandbConfig(mode="online", init_timeout=1.0))
    assert sum("wandb goes on offline" in message for message in caplog.messages) == 1
    assert sorted(history(tmp_path)) == [10, 20]


def test_disabled_leaves_nothing(tmp_path: Path) -> None:
    a_run(tmp_path, WandbConfig(mode="disabled"))
    assert [path.name for path in tmp_path.iterdir()] == ["samples.png"]
