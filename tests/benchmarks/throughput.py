"""Measure training and sampling on a GPU, in images per second: all systems in one process, in turns.

    python tests/benchmarks/throughput.py batch-32 --data data/afhq --device cuda --out batch-32.json

- `batch-32` and `batch-512`: ddpmkit, denoising-diffusion-pytorch and diffusers train with this batch size, and
  generate 64 or 1,024 images with T = 50. A package that is not installed has a row that says so.
- `large` and `large-compiled`: ddpmkit trains two large networks at 64 px in bfloat16, and the rows show the share of
  the rate of a large matrix product that a step reaches.

The rows are written again after every round, so that a measurement that is stopped leaves its medians so far. On a
CPU, the parts are small: this shows only that the script runs.
"""

import argparse
import dataclasses
import gc
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from systems import SYSTEMS, System, Task
from torch.utils.flop_counter import FlopCounterMode

from ddpmkit.experiment.build import build_images
from ddpmkit.experiment.model import Model, build_model
from ddpmkit.experiment.step_work import count_kernels
from ddpmkit.recipe import read_recipe
from ddpmkit.training.trainer import Trainer

PARTS = ("batch-32", "batch-512", "large", "large-compiled")
_ROUNDS = 5
_WARM_UP_STEPS = 6
"""The first steps run eagerly, and then a step is captured in a graph."""
_KERNEL_STEPS = 5

Precision = Literal["float32", "bfloat16"]

COMPARED: Sequence[tuple[str, Precision]] = (
    ("ddpmkit", "bfloat16"),
    ("lucidrains", "bfloat16"),
    ("ddpmkit-adam", "bfloat16"),
    ("lucidrains", "float32"),
    ("diffusers", "bfloat16"),
    ("ddpmkit", "float32"),
    ("diffusers", "float32"),
)
"""Systems with their precision. Those that the goals name come first, in case the time does not suffice."""

LARGE: Mapping[str, Mapping[str, Any]] = {
    "attention-unet, dim 128": {"use": "attention-unet", "dim": 128},
    "DiT-B/4": {"use": "dit", "dim": 768, "depth": 12, "heads": 12, "patch_size": 4},
}
_SMALL: Mapping[str, Mapping[str, Any]] = {
    "attention-unet, dim 8": {"use": "attention-unet", "dim": 8, "multipliers": [1, 2], "linear_attention_levels": [1]},
    "DiT, dim 16": {"use": "dit", "dim": 16, "depth": 1, "heads": 2, "patch_size": 4},
}


@dataclass
class Row:
    """Medians of one system; a number is missing if it was not measured, and `problem` says why."""

    system: str
    precision: Precision
    batch_size: int
    images_per_second: float | None = None
    """In training."""
    generated: int | None = None
    """Number of images that are generated at a time."""
    generated_per_second: float | None = None
    share_of_matmul_rate: float | None = None
    idle_share: float | None = None
    """Share of a step in which the device waits for the host."""
    kernels: float | None = None
    parameters: int | None = None
    flops_a_step: int | None = None
    problem: str | None = None
    training: list[float] = field(default_factory=list)
    """Images per second of every block."""
    sampling: list[float] = field(default_factory=list)

    def take_medians(self) -> None:
        """Compute the medians of the blocks so far."""
        self.images_per_second = statistics.median(self.training) if self.training else None
        self.generated_per_second = statistics.median(self.sampling) if self.sampling else None


@dataclass
class Clock:
    """Times blocks of work on a device."""

    device: torch.device
    block_seconds: float
    deadline: float

    def is_over(self) -> bool:
        """Return whether the time for the part is over."""
        return time.perf_counter() > self.deadline

    def seconds(self, work: Callable[[], Any]) -> float:
        """Return the seconds of `work`, from an idle device to an idle device."""
        self.wait()
        began = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - began

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def calls_per_block(self, seconds: float) -> int:
        """Return how many calls of `seconds` fill a block."""
        return max(1, min(1000, round(self.block_seconds / seconds)))


def compared(task: Task, images: int, clock: Clock, save: Callable[[list[Row]], None]) -> list[Row]:
    """Return a row for each system of `COMPARED`. `save` is called after every round."""
    on_cpu = clock.device.type == "cpu"
    rows = [Row(name, precision, task.batch_size, generated=images) for name, precision in COMPARED]
    rows = [row for row in rows if not (on_cpu and row.precision == "bfloat16")]
    measured: list[tuple[Row, System, int]] = []

    def build(row: Row) -> None:
        chosen = dataclasses.replace(task, precision=row.precision, sample_batch=images)
        system = SYSTEMS[row.system](chosen)
        row.parameters = sum(weight.numel() for weight in system.network.parameters())
        measured.append((row, system, _warm_up(system, clock)))

    def train(row: Row, system: System, steps: int) -> None:
        row.training.append(steps * task.batch_size / _training_block(system, steps, clock))

    def sample(row: Row, system: System) -> None:
        if not row.sampling and not on_cpu:
            _sampling_block(system, images, clock)  # captures what is replayed later
        row.sampling.append(images / _sampling_block(system, images, clock))

    for row in rows:
        _attempt(row, clock, partial(build, row))
        save(rows)
    for _ in range(_ROUNDS):
        for row, system, steps in measured:
            _attempt(row, clock, partial(train, row, system, steps))
        save(rows)
        for row, system, _steps in measured:
            _attempt(row, clock, partial(sample, row, system))
        save(rows)
    for row, system, _steps in measured:
        if row.system == "ddpmkit" and not on_cpu:
            _attempt(row, clock, partial(_count_kernels, row, system))
    save(rows)
    return rows


def large(task: Task, compiles: bool, clock: Clock, save: Callable[[list[Row]], None]) -> list[Row]:
    """Return a row for each large network. `save` is called after every network."""
    networks = _SMALL if clock.device.type == "cpu" else LARGE
    rows = [Row(name + (", compiled" if compiles else ""), "bfloat16", task.batch_size) for name in networks]
    for row, backbone in zip(rows, networks.values(), strict=True):
        _attempt(row, clock, partial(measure_large, row, backbone, task, compiles, clock))
        save(rows)
        gc.collect()
        if clock.device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def measure_large(row: Row, backbone: Mapping[str, Any], task: Task, compiles: bool, clock: Clock) -> None:
    """Measure the training of a network, and its share of the rate of a large matrix product."""
    # FLOP are counted in the operators of a small batch. A compiled network or a replayed graph hides them.
    model, system = _large(backbone, task, batch_size=2)
    with system.settings(), FlopCounterMode(display=False) as counter:
        system.step()
        system.settle()
    row.flops_a_step = counter.get_total_flops() * task.batch_size // 2
    row.parameters = model.parameters
    del model, system
    model, system = _large(backbone, task, batch_size=task.batch_size, compile=compiles)
    steps = _warm_up(system, clock)
    for number in range(_ROUNDS):
        if number and clock.is_over():
            break
        row.training.append(steps * task.batch_size / _training_block(system, steps, clock))
        row.take_medians()
    assert row.images_per_second is not None
    # Right after the steps, because the clock rate of a GPU depends on its temperature.
    rate = row.flops_a_step / task.batch_size * row.images_per_second
    row.share_of_matmul_rate = rate / model.runtime.matmul_rate()
    if clock.device.type == "cuda" and not clock.is_over():
        _count_kernels(row, system)


def _large(backbone: Mapping[str, Any], task: Task, **train: Any) -> tuple[Model, System]:
    settings = {"precision": "bfloat16", "device": task.device, **train}
    data = {"use": "critters", "image_size": 64, "size": 100}
    recipe = read_recipe({"data": data, "backbone": backbone, "train": settings}, name="large")
    model = build_model(recipe)
    trainer = Trainer(model.network, model.objective(), build_images(recipe, "train"), recipe.train)
    unused: Callable[[int], torch.Tensor] = torch.zeros
    system = System(model.network, trainer.train_step, unused, settle=trainer.settle, settings=model.runtime.settings)
    return model, system


def _attempt(row: Row, clock: Clock, work: Callable[[], Any]) -> None:
    """Do a part of the work for a row, unless another part of it failed or the time is over."""
    if row.problem is not None:
        return
    if clock.is_over():
        if not row.training or (row.generated is not None and not row.sampling):
            row.problem = "out of time"
        return
    try:
        work()
    except Exception as error:
        if isinstance(error, ModuleNotFoundError):
            row.problem = f"not measured: the package {error.name!r} is not installed"
        else:
            row.problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    row.take_medians()


def _warm_up(system: System, clock: Clock) -> int:
    """Take the first steps, and return how many steps fill a block."""
    _take_steps(system, _WARM_UP_STEPS if clock.device.type == "cuda" else 1)
    return clock.calls_per_block(_training_block(system, 2, clock) / 2)


def _training_block(system: System, steps: int, clock: Clock) -> float:
    return clock.seconds(lambda: _take_steps(system, steps))


def _take_steps(system: System, steps: int) -> None:
    with system.settings():
        for _ in range(steps):
            system.step()
        system.settle()


def _sampling_block(system: System, images: int, clock: Clock) -> float:
    with system.settings(), torch.no_grad():
        return clock.seconds(lambda: system.sample(images))


def _count_kernels(row: Row, system: System) -> None:
    """Measure the time of the kernels of a step, as a share of a step without the profiler."""
    assert row.images_per_second is not None
    with system.settings():
        kernels = count_kernels(system.step, _KERNEL_STEPS)
        system.settle()
    row.kernels = kernels.number
    row.idle_share = max(0.0, 1 - kernels.seconds * row.images_per_second / row.batch_size)


def rows_of(part: str, task: Task, clock: Clock, save: Callable[[list[Row]], None]) -> list[Row]:
    """Return the rows of a part, one of `PARTS`."""
    on_cpu = clock.device.type == "cpu"
    if part.startswith("batch-"):
        batch_size, images = (32, 64) if part == "batch-32" else (512, 1024)
        if on_cpu:
            batch_size, images = batch_size // 16, images // 32
        return compared(dataclasses.replace(task, batch_size=batch_size), images, clock, save)
    return large(dataclasses.replace(task, batch_size=4 if on_cpu else 256), part == "large-compiled", clock, save)


def main() -> None:
    """Measure one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--data", type=Path, required=True, help="a folder with the layout of AFHQ")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--block-seconds", type=float, default=0.5, help="duration of a block of training steps")
    parser.add_argument("--seconds", type=float, default=600, help="begin no block after this time")
    parser.add_argument("--out", type=Path, help="where to write the rows, as JSON  [default: standard output]")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)

    def save(rows: list[Row]) -> None:
        if arguments.out is not None:
            partial_file = arguments.out.with_suffix(".partial")
            partial_file.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1), encoding="utf-8")
            partial_file.replace(arguments.out)

    device = torch.device(arguments.device)
    clock = Clock(device, arguments.block_seconds, time.perf_counter() + arguments.seconds)
    rows = rows_of(arguments.part, Task(arguments.data, arguments.device), clock, save)
    if arguments.out is None:
        sys.stdout.write(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
