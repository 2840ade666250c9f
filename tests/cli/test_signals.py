"""Signals to real processes: what is saved, the exit code, and how the same command resumes."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from ddpmkit.checkpoint import checkpoint_folders, open_checkpoint
from ddpmkit.cli import main

PARTS = str(Path(__file__).with_name("parts.py"))
EVERLASTING = ("train.steps=1000000",)
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGHUP, 129)]


@pytest.fixture
def command(recipe: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """`ddpmkit run` of the small recipe, with these overrides."""

    def make(*overrides: str, out: Path = tmp_path / "run") -> list[str]:
        options = [part for override in overrides for part in ("--set", override)]
        return [sys.executable, "-m", "ddpmkit", "run", str(recipe), "--out", str(out), "--plugin", PARTS, *options]

    return make


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, as shells start their jobs."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def wait_for(process: subprocess.Popen[str], beginning: str) -> None:
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith(beginning):
            return
    pytest.fail(f"no line began with {beginning!r}: {''.join(seen)}")


def ran(command: list[str]) -> str:
    """stdout of a `ddpmkit` command in this process; only the process that receives signals is separate."""
    result = CliRunner().invoke(main, command[3:])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def saved_step(folder: Path) -> int:
    return open_checkpoint(checkpoint_folders(folder / "checkpoints")[0]).step


@pytest.mark.parametrize(("number", "exit_code"), SIGNALS)
def test_a_signal_in_training_finishes_the_step_and_saves(
    command: Callable[..., list[str]], tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    with started(command(*EVERLASTING)) as process:
        wait_for(process, "step")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == exit_code
    assert "stopping: the run is saved after this step" in err
    step = saved_step(tmp_path / "run")
    assert out.startswith(f"stopped at step {step:,} of 1,000,000;")
    assert out.splitlines()[-1] == f"next: the same command resumes from {tmp_path}/run/checkpoints/step-{step:08d}"
    again = ran(command(f"train.steps={step + 2}"))
    assert again.startswith("finished: 2 more steps")
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[:-1]]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize(("number", "exit_code"), SIGNALS[:3])
def test_a_signal_in_sampling_saves_and_the_resumed_run_makes_the_grid(
    command: Callable[..., list[str]], tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    endless = ("train.sample_every=2", "sampler.count=1000000", "sampler.batch_size=1")
    with started(command(*endless)) as process:
        wait_for(process, "sampling steps for 1,000,000 samples ...")
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == exit_code
    assert saved_step(tmp_path / "run") == 2
    assert not (tmp_path / "run" / "samples").exists()
    ran(command("train.sample_every=2"))
    straight = tmp_path / "straight"
    ran(command("train.sample_every=2", out=straight))
    for name in ("step-00000002.png", "step-00000004.png"):
        assert (tmp_path / "run" / "samples" / name).read_bytes() == (straight / "samples" / name).read_bytes()


@pytest.mark.parametrize(("number", "exit_code"), SIGNALS[:3])
def test_a_signal_in_an_evaluation_saves_and_the_resumed_run_evaluates(
    command: Callable[..., list[str]], tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    metric = 'metric=[{{use="local/brightness", every=2, num_samples={}}}]'
    with started(command(metric.format(1_000_000), "sampler.batch_size=1")) as process:
        wait_for(process, "local/brightness: samples ...")
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == exit_code
    assert saved_step(tmp_path / "run") == 2
    ran(command(metric.format(16)))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "scores"] == [2, 4]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_ignored_at_the_start_of_the_process_stays_ignored(
    command: Callable[..., list[str]], tmp_path: Path, number: signal.Signals
) -> None:
    """As under `nohup`, or in a background job of a shell script."""
    ignoring = f"trap '' {number.name.removeprefix('SIG')}; exec {shlex.join(command(*EVERLASTING))}"
    with started(["sh", "-c", ignoring]) as process:
        wait_for(process, "step")
        process.send_signal(number)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.count("stopping: ") == 1
    assert saved_step(tmp_path / "run") > 0


def test_a_second_ctrl_c_ends_the_run_immediately(command: Callable[..., list[str]], tmp_path: Path) -> None:
    """The second signal comes during a unit of work that takes minutes."""
    with started(
        command(*EVERLASTING, "train.sample_every=2", "sampler.count=4000000", "sampler.batch_size=4000000")
    ) as process:
        wait_for(process, "sampling steps for 4,000,000 samples ...")
        process.send_signal(signal.SIGINT)
        wait_for(process, "stopping: ")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < 20


def test_trackers_finish_after_ctrl_c_for_the_process_group(command: Callable[..., list[str]], tmp_path: Path) -> None:
    tracker = 'tracker=[{use="wandb", mode="offline"}]'
    with started(command(*EVERLASTING, tracker)) as process:
        wait_for(process, "step")
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=150)  # a run waits at most two minutes for its trackers
    assert process.returncode == 130
    assert "disabled" not in err
    (written,) = (tmp_path / "run").rglob("*.wandb")
    assert written.stat().st_size > 0
    assert saved_step(tmp_path / "run") > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_tracker_that_hangs_at_the_end_does_not_block_a_signal(
    command: Callable[..., list[str]], tmp_path: Path, number: signal.Signals
) -> None:
    with started(command('tracker=[{use="local/lingering"}]')) as process:
        wait_for(process, "waiting for tracker local/lingering")
        process.send_signal(number)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0  # the run itself is finished
    assert out.startswith("finished: 4 steps")
    assert "tracker local/lingering has not finished after" in err


def test_a_tracker_cannot_install_a_handler_of_ctrl_c(command: Callable[..., list[str]], tmp_path: Path) -> None:
    with started(command(*EVERLASTING, 'tracker=[{use="local/grabbing"}]')) as process:
        wait_for(process, "warning: tracker local/grabbing failed with ValueError: signal only works in main thread")
        wait_for(process, "step")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert saved_step(tmp_path / "run") > 0


def test_a_loss_that_ends_the_process_is_a_failure_with_its_name(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    with started(command('loss={use="local/leaving"}')) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: loss 'local/leaving' failed while training step 3, with SystemExit: 0" in err
    assert out.startswith("failed at step 2 of 4")
    assert saved_step(tmp_path / "run") == 2


def test_a_second_process_in_a_run_folder_is_an_error_that_names_the_first(command: Callable[..., list[str]]) -> None:
    with started(command(*EVERLASTING)) as process:
        wait_for(process, "step")
        second = subprocess.run(command(), capture_output=True, text=True, check=False, timeout=60)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert second.returncode == 2
    assert f"is being written by process {process.pid} on " in second.stderr
    assert process.returncode == 143


JUMPING_CLOCK = """
import itertools, runpy, sys, time
days, real = itertools.count(), time.time
time.time = lambda: real() - (-1) ** next(days) * 40 * 86_400
sys.argv[0] = "ddpmkit"
runpy.run_module("ddpmkit", run_name="__main__")
"""


def test_clock_zone_language_and_path_have_no_effect(command: Callable[..., list[str]], tmp_path: Path) -> None:
    plain, unusual = tmp_path / "plain", tmp_path / "späte Läufe 'n' spaces 猫" / ("long" * 40)
    for steps in (2, 4):
        ran(command(f"train.steps={steps}", out=plain))
        subprocess.run(
            [sys.executable, "-c", JUMPING_CLOCK, *command(f"train.steps={steps}", out=unusual)[3:]],
            env={**os.environ, "TZ": "Asia/Kathmandu", "LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8"},
            check=True,
            capture_output=True,
            timeout=120,
        )
    one, two = (
        open_checkpoint(checkpoint_folders(folder / "checkpoints")[0]).tensors("model") for folder in (plain, unusual)
    )
    assert all((one[key] == two[key]).all() for key in one)
    assert logged(plain) == logged(unusual)
    grid = Path("samples") / "step-00000004.png"
    assert (plain / grid).read_bytes() == (unusual / grid).read_bytes()


def logged(folder: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]
