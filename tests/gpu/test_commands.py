"""`ddpmkit run` on the device as a user starts it: killed and resumed, and with too little memory."""

import functools
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import differing_tensors, step_records

from ddpmkit.checkpoint import Checkpoint, checkpoint_folders, open_checkpoint
from ddpmkit.recipe import toml_text

pytestmark = pytest.mark.gpu

Recipe = Callable[..., dict[str, Any]]

_GIB = 2**30


def command(recipe: dict[str, Any], out: Path) -> list[str]:
    """Return the command that runs a recipe in the folder `out`."""
    file = out.with_suffix(".toml")
    file.write_text(toml_text(recipe), encoding="utf-8")
    return [sys.executable, "-m", "ddpmkit", "run", str(file), "--out", str(out)]


def newest(run: Path) -> Checkpoint:
    return open_checkpoint(checkpoint_folders(run / "checkpoints")[0])


def kill_at_step(step: int, arguments: list[str], out: Path) -> int:
    """Start a run, kill it (-9) as soon as its log contains the step, and return the exit code."""
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if any(record["step"] >= step for record in step_records(out)):
                process.kill()
            time.sleep(0.01)
        return process.returncode


def test_a_run_that_is_killed_and_resumed_equals_an_uninterrupted_one(
    small: Recipe, tmp_path: Path, device: torch.device
) -> None:
    steps = 150 if device.type == "cpu" else 600  # a GPU must not finish before it is killed
    options = {"optimizer": "muon", "precision": "auto", "checkpoint_every": 25}
    recipe = small(train={"steps": steps, **options}, diffusion={"self_conditioning": True})
    (tmp_path / "killed").mkdir()
    straight, killed = tmp_path / "straight", tmp_path / "killed" / "straight"  # a name is a part of a recipe
    subprocess.run(command(recipe, straight), check=True, capture_output=True)
    arguments = command(recipe, killed)
    assert kill_at_step(60, arguments, killed) == -signal.SIGKILL
    assert newest(killed).step in range(25, steps)
    subprocess.run(arguments, check=True, capture_output=True)
    assert newest(killed).step == newest(straight).step == steps
    assert differing_tensors(newest(killed), newest(straight)) == []
    assert step_records(killed) == step_records(straight)


def test_too_little_memory_is_reported_with_a_remedy(small: Recipe, tmp_path: Path, device: torch.device) -> None:
    """On a GPU, each of the first activations needs 8 GB. On a CPU, the process may use 6 GiB."""
    on_cpu = device.type == "cpu"
    recipe = small(
        data={"use": "critters", "image_size": 64, "size": 8, "val_size": 1},
        backbone={"use": "attention-unet", "dim": 32 if on_cpu else 128},
        train={"batch_size": 2048 if on_cpu else 4000},
    )
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_AS, (6 * _GIB, 6 * _GIB)) if on_cpu else None
    done = subprocess.run(
        command(recipe, tmp_path / "run"), capture_output=True, text=True, check=False, preexec_fn=limit
    )
    assert done.returncode == 1, done.stderr
    assert "out of memory while training step 1" in done.stderr
    assert "set train.accumulate = 2" in done.stderr
    assert "Traceback" not in done.stderr
