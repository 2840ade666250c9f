"""Measure how long training waits for a checkpoint, compared with `torch.save` of the same tensors.

    python tests/stress/saving.py --rounds 7

The state comes from a real trainer: attention U-Net, EMA, both moments of Adam. The methods take turns in each round,
so that a slow moment of the disk affects all of them. The times are medians.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpmkit.atomic_io import fsync_folder
from ddpmkit.checkpoint import save_checkpoint
from ddpmkit.experiment.build import build_images
from ddpmkit.experiment.model import build_model
from ddpmkit.experiment.saving import copied
from ddpmkit.recipe import read_recipe
from ddpmkit.training.state import state_tensors
from ddpmkit.training.trainer import Trainer

__all__ = ["seconds_by_method", "trained_state"]

Parts = Mapping[str, Mapping[str, Tensor]]
DIMS = (16, 80)
"""Widths of the attention U-Net: 2.5 and 62 million parameters."""


def trained_state(dim: int, device: str) -> Parts:
    """Return the parts of a checkpoint after one training step."""
    recipe = read_recipe(
        {
            "data": {"use": "critters", "image_size": 8, "size": 1, "val_size": 1},
            "backbone": {"use": "attention-unet", "dim": dim},
            "train": {"batch_size": 1, "device": device},
        },
        name="saving",
    )
    model = build_model(recipe)
    images = build_images(recipe, "train")
    trainer = Trainer(model.network, model.objective(), images, recipe.train)
    trainer.train_step()
    trainer.settle()
    return state_tensors(trainer)


def seconds_by_method(parts: Parts, folder: Path, rounds: int) -> dict[str, float]:
    """Return the median seconds of each method of saving `parts` in `folder`."""
    lock = folder / "recipe.lock.toml"
    lock.write_text('name = "saving"\n', encoding="utf-8")
    methods: dict[str, Callable[[Path], Any]] = {
        "save_checkpoint, in the background": lambda place: save_checkpoint(place, 1, parts, lock),
        "what training waits for": lambda _place: copied(1, parts),
        "torch.save": lambda place: _torch_save(parts, place),
        "torch.save and fsync": lambda place: _torch_save(parts, place, fsync=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(rounds):
        names = list(methods)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            place = folder / "place"
            place.mkdir()
            os.sync()  # write what the previous method left in buffers
            began = time.perf_counter()
            methods[name](place)
            seconds[name].append(time.perf_counter() - began)
            shutil.rmtree(place)
    return {name: statistics.median(times) for name, times in seconds.items()}


def _torch_save(parts: Parts, place: Path, *, fsync: bool = False) -> None:
    with (place / "checkpoint.pt").open("wb") as file:
        torch.save(parts, file)
        if fsync:
            file.flush()
            os.fsync(file.fileno())
    if fsync:
        fsync_folder(place)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workdir", type=Path, help="a folder on the disk to measure  [default: the temporary one]")
    options = parser.parse_args()
    rows = []
    for dim in DIMS:
        parts = trained_state(dim, options.device)
        parameters = sum(weight.numel() for weight in parts["model"].values())
        size = sum(value.numel() * value.element_size() for tensors in parts.values() for value in tensors.values())
        with tempfile.TemporaryDirectory(dir=options.workdir) as temporary:
            seconds = seconds_by_method(parts, Path(temporary), options.rounds)
        for name, taken in seconds.items():
            share = taken / seconds["torch.save"]
            rows.append(f"| {parameters / 1e6:.1f} M | {size / 1e6:,.0f} MB | {name} | {taken:.3f} s | {share:.2f} |")
    header = [
        "| parameters | state | method | median | relative to torch.save |",
        "| ---: | ---: | --- | ---: | ---: |",
    ]
    print("\n".join([*header, *rows]))  # noqa: T201 -- the output of the script
    return 0


if __name__ == "__main__":
    sys.exit(main())
