"""Reading a run that saves at every step and keeps one checkpoint, while it is in progress."""

import subprocess
import sys
from pathlib import Path

import torch

import ddpmkit
from ddpmkit.checkpoint import newest_checkpoint
from ddpmkit.recipe import toml_text


def test_readers_of_a_run_in_progress_always_find_an_intact_checkpoint(tmp_path: Path, small) -> None:  # type: ignore[no-untyped-def]
    recipe, folder = tmp_path / "small.toml", tmp_path / "run"
    recipe.write_text(toml_text(small(train={"steps": 1_000_000, "checkpoint_every": 1, "keep_last": 1})))
    command = [sys.executable, "-m", "ddpmkit", "run", str(recipe), "--out", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            steps = []
            while not steps:
                assert process.poll() is None
                if (found := newest_checkpoint(folder / "checkpoints")) is not None:
                    steps.append(found.step)
            for number in range(200):
                found = newest_checkpoint(folder / "checkpoints")
                assert found is not None
                counts = {int(value) for name, value in found.tensors("optimizer").items() if name.endswith("step")}
                assert counts == {found.step}
                if number % 50 == 0:
                    run = ddpmkit.load(folder)
                    steps.append(run.step)
                    images = run.sample(1)
                    # By now the run has removed that checkpoint.
                    assert torch.equal(run.sample(1), images)
            steps.append(found.step)
            assert process.poll() is None
        finally:
            process.kill()
    assert steps == sorted(steps)
    assert len(set(steps)) > 2
    left = [path.name for path in (folder / "checkpoints").iterdir()]
    assert [name for name in left if "damaged" in name] == []
