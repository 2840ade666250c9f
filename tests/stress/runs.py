"""A small real run, and the checks of its folder: at any time, and after the end."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpmkit.checkpoint import Checkpoint, checkpoint_folders, open_checkpoint
from ddpmkit.errors import InputError

__all__ = [
    "CHECKPOINT_EVERY",
    "SAMPLE_EVERY",
    "differences",
    "differing_tensors",
    "incidents",
    "problems_of",
    "step_records",
    "write_recipe",
]

CHECKPOINT_EVERY, SAMPLE_EVERY = 3, 10
_PARTS = ("model", "ema", "optimizer", "progress")

_RECIPE = f"""
name = "killed"
[data]
use = "critters"
image_size = 16
size = 32
val_size = 8
[diffusion]
timesteps = 10
[backbone]
use = "attention-unet"
dim = 8
multipliers = [1, 2]
linear_attention_levels = [1]
[sampler]
count = 4
[train]
batch_size = 4
log_every = 1
validate_every = 20
sample_every = {SAMPLE_EVERY}
checkpoint_every = {CHECKPOINT_EVERY}
device = "cpu"
"""


def write_recipe(folder: Path) -> Path:
    """Write the recipe of the small run to a file in `folder`."""
    file = folder / "killed.toml"
    file.write_text(_RECIPE, encoding="utf-8")
    return file


def problems_of(run: Path, uninterrupted: Path) -> list[str]:
    """Return the problems of a run folder after a kill: an incomplete file under a final name, an unreadable log."""
    problems = []
    for entry in (run / "checkpoints").glob("*"):
        if re.fullmatch(r"step-\d{8}", entry.name):
            try:
                open_checkpoint(entry)
            except InputError as error:
                problems.append(error.message)
        elif ".damaged" in entry.name:
            problems.append(f"{entry} was used as a checkpoint")
    for image in [*run.glob("samples/*.png"), *run.glob("viz/*.png")]:
        if image.read_bytes() != (uninterrupted / image.relative_to(run)).read_bytes():
            problems.append(f"{image} differs")
    try:
        steps = [record["step"] for record in step_records(run)]
    except ValueError as error:
        return [*problems, f"{run / 'metrics.jsonl'}: {error}"]
    if any(later <= earlier for earlier, later in pairwise(steps)):
        problems.append(f"{run / 'metrics.jsonl'}: the steps are {steps}")
    return problems


def differences(run: Path, uninterrupted: Path) -> list[str]:
    """Return the differences of a finished run from the uninterrupted one: tensors (bit for bit), log, images."""
    problems = problems_of(run, uninterrupted)
    one, two = (open_checkpoint(checkpoint_folders(folder / "checkpoints")[0]) for folder in (run, uninterrupted))
    if one.step != two.step:
        problems.append(f"{run} ends at step {one.step}, not at {two.step}")
    problems += [f"{one.path}: {name} differs" for name in differing_tensors(one, two)]
    if step_records(run) != step_records(uninterrupted):
        problems.append(f"{run / 'metrics.jsonl'} has different records")
    images = [
        sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png")) for folder in (run, uninterrupted)
    ]
    if images[0] != images[1] or not (run / "report.html").exists():
        problems.append(f"{run} has the images {images[0]}, not {images[1]}")
    return problems


def differing_tensors(one: Checkpoint, two: Checkpoint) -> list[str]:
    """Return the names of tensors that are not in both, or differ in a bit, and of parts without tensors."""
    different = []
    for part in _PARTS:
        ours, theirs = one.tensors(part), two.tensors(part)
        different += [f"{part}: {name}" for name in ours.keys() ^ theirs.keys()]
        different += [
            f"{part}: {name}" for name in ours.keys() & theirs.keys() if not _equal_bits(ours[name], theirs[name])
        ]
        if not theirs:
            different.append(f"{part}: no tensor to compare with")
    return different


def step_records(run: Path) -> list[dict[str, Any]]:
    """Return the training records of the log without throughput. An incomplete last line is ignored.

    Raises ValueError for any other line that is not JSON.
    """
    log = run / "metrics.jsonl"
    *lines, _cut_off = log.read_text(encoding="utf-8").split("\n") if log.exists() else [""]
    records = [json.loads(line) for line in lines]
    return [
        {key: value for key, value in record.items() if key != "images_per_second"}
        for record in records
        if record["event"] == "step"
    ]


def _equal_bits(one: Tensor, two: Tensor) -> bool:
    """Return whether two tensors have the same type, shape and bits: -0.0 is not 0.0, and NaN equals NaN."""
    if (one.dtype, one.shape) != (two.dtype, two.shape):
        return False
    return torch.equal(*(tensor.contiguous().flatten().view(torch.uint8) for tensor in (one, two)))


def incidents(run: Path) -> list[dict[str, Any]]:
    """Return what the run recorded besides its log: failures, rollbacks, changes."""
    return [json.loads(line) for line in (run / "incidents.jsonl").read_text(encoding="utf-8").splitlines()]
