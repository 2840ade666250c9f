"""Kills (SIGKILL) at random times, at every stage of a save, and before any change of a file."""

import hashlib
import itertools
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from every_operation import kill_everywhere
from failpoints import run_until, save_again
from processes import call
from random_kills import kill_at_random
from runs import differing_tensors, step_records
from scenarios import SCENARIOS, Workspace

from ddpmkit.checkpoint import Checkpoint, checkpoint_folders, newest_checkpoint, open_checkpoint

SMALL: dict[str, Any] = {
    "data": {"use": "critters", "image_size": 8, "size": 8, "val_size": 4},
    "diffusion": {"timesteps": 6},
    "backbone": {"dim": 8, "multipliers": [1], "linear_attention_levels": [], "heads": 1, "head_dim": 8},
    "train": {"steps": 100, "batch_size": 4, "log_every": 1, "sample_every": 0, "checkpoint_every": 0},
}


@pytest.mark.slow
def test_runs_that_are_killed_at_random_times_equal_the_uninterrupted_one(tmp_path: Path) -> None:
    outcome = kill_at_random(20, seed=0, folder=tmp_path, steps=24)
    assert outcome.problems == []
    assert outcome.kills == 20
    assert outcome.finished >= 1
    assert len(outcome.kills_by_place) >= 2


HARD = {
    "fresh": "open run/scores.csv",
    "another metric": "open run/.report.html",
    "sweep": "checkpoints/.step-00000000.removed",
    "fetch": "os.remove run/.afhq.partial/afhq_v1.zip",
}
"""Changes before which a kill once left something behind permanently."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_same_command_recovers_from_a_kill_before_a_change_of_any_file(tmp_path: Path, name: str) -> None:
    """One change of each scenario and the hard one; `tests/stress/every_operation.py` tries every change."""

    def chosen(changes: list[str]) -> set[int]:
        hard = [number for number, change in enumerate(changes) if name in HARD and HARD[name] in change]
        assert bool(hard) == (name in HARD)
        return {random.Random(name).randrange(len(changes)), *hard[:1]}

    outcome = kill_everywhere(SCENARIOS[name], Workspace(tmp_path), chosen)
    assert outcome.problems == []
    assert outcome.exact == outcome.kills > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("former", "saved"), [(None, 1), (1, 2), (2, 2)], ids=["the first save", "a later save", "the same step again"]
)
def test_a_kill_at_any_stage_of_a_save_leaves_the_old_checkpoint_or_the_complete_new_one(
    tmp_path: Path, former: int | None, saved: int
) -> None:
    uninterrupted = {step: tmp_path / f"until-{step}" for step in (1, 2, 3)}
    for step, folder in uninterrupted.items():
        assert call(run_until, step, SMALL, folder) == 0

    found, resumed = [], set()
    for fatal in itertools.count():
        run = tmp_path / f"killed-{fatal}"
        if former is not None:
            shutil.copytree(uninterrupted[former], run)
        dying = (save_again, run, fatal) if former == saved else (run_until, saved, SMALL, run, fatal)
        if (exit_code := call(*dying)) == 0:
            break  # there are no more stages
        assert exit_code == -signal.SIGKILL
        state = folder_state(run / "checkpoints")
        checkpoint = newest_checkpoint(run / "checkpoints")
        found.append(checkpoint.step if checkpoint else None)
        if checkpoint is not None:
            assert differing_tensors(checkpoint, newest(uninterrupted[checkpoint.step])) == []
        if state not in resumed:  # the same files lead to the same result
            resumed.add(state)
            assert call(run_until, 3, SMALL, run) == 0
            assert differing_tensors(newest(run), newest(uninterrupted[3])) == []
            assert step_records(run) == step_records(uninterrupted[3])
            assert [path.name for path in (run / "checkpoints").iterdir() if "." in path.name] == []
    # Early stages leave the old checkpoint, later ones the new one.
    assert [step for step, _ in itertools.groupby(found)] == list(dict.fromkeys([former, saved]))
    assert len(found) > 20


def newest(run: Path) -> Checkpoint:
    return open_checkpoint(checkpoint_folders(run / "checkpoints")[0])


def folder_state(folder: Path) -> str:
    """A digest of the names and the contents of all files below."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes() if path.is_file() else b"folder")
    return digest.hexdigest()
