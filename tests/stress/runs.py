"""A small real run, what must hold of its folder at any time, and what it must be when it has finished.

It does not know what happens to the run.
"""

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
    "CHECKPOINT_EVERY", "SAMPLE_EVERY", "differences", "step_records", "unlike_tensors", "unsound", "write_recipe",
]  # fmt: skip

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
    """The recipe of the small run, as a file in `folder`."""
    file = folder / "killed.toml"
    file.write_text(_RECIPE, encoding="utf-8")
    return file


def unsound(run: Path, uninterrupted: Path) -> list[str]:
    """What must not be there after a kill: half a file under a final name, a log that cannot be read."""
    problems = []
    for entry in (run / "checkpoints").glob("*"):
        if re.fullmatch(r"step-\d{8}", entry.name):
            try:
                open_checkpoint(entry)
            except InputError as error:
                problems.append(error.message)
        elif ".damaged" in entry.name:
            problems.append(f"{entry} was taken for a checkpoint")
    for picture in [*run.glob("samples/*.png"), *run.glob("viz/*.png")]:
        if picture.read_bytes() != (uninterrupted / picture.relative_to(run)).read_bytes():
            problems.append(f"{picture} is another picture")
    try:
        steps = [record["step"] for record in step_records(run)]
    except ValueError as error:
        return [*problems, f"{run / 'metrics.jsonl'}: {error}"]
    if any(later <= earlier for earlier, later in pairwise(steps)):
        problems.append(f"{run / 'metrics.jsonl'}: the steps are {steps}")
    return problems


def differences(run: Path, uninterrupted: Path) -> list[str]:
    """What of a finished run is not as it is in the uninterrupted one: tensors by their bits, log, pictures."""
    problems = unsound(run, uninterrupted)
    one, two = (open_checkpoint(checkpoint_folders(folder / "checkpoints")[0]) for folder in (run, uninterrupted))
    if one.step != two.step:
        problems.append(f"{run} ends at step {one.step}, not at {two.step}")
    problems += [f"{one.path}: {name} differs" for name in unlike_tensors(one, two)]
    if step_records(run) != step_records(uninterrupted):
        problems.append(f"{run / 'metrics.jsonl'} has other records")
    pictures = [
        sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png")) for folder in (run, uninterrupted)
    ]
    if pictures[0] != pictures[1] or not (run / "report.html").exists():
        problems.append(f"{run} has the pictures {pictures[0]}, not {pictures[1]}")
    return problems


def unlike_tensors(one: Checkpoint, two: Checkpoint) -> list[str]:
    """Names of the tensors that are not in both, or not equal in every bit. A part without tensors is named too."""
    unlike = []
    for part in _PARTS:
        ours, theirs = one.tensors(part), two.tensors(part)
        unlike += [f"{part}: {name}" for name in ours.keys() ^ theirs.keys()]
        unlike += [
            f"{part}: {name}" for name in ours.keys() & theirs.keys() if not _equal_bits(ours[name], theirs[name])
        ]
        if not theirs:
            unlike.append(f"{part}: no tensor to compare with")
    return unlike


def step_records(run: Path) -> list[dict[str, Any]]:
    """The log of the training steps without the one number that is a matter of time; a line cut off at the end is none.

    Raises ValueError for any other line that is no JSON.
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
    """Whether two tensors are of one type and shape and equal in every bit: -0.0 is not 0.0, and NaN equals NaN."""
    if (one.dtype, one.shape) != (two.dtype, two.shape):
        return False
    return torch.equal(*(tensor.contiguous().flatten().view(torch.uint8) for tensor in (one, two)))
