"""The benchmark scripts run; their results are not tested."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import systems
import torch
from compare import median_of, table, throughput_table
from PIL import Image
from systems import System, Task, ddpmkit, measure
from throughput import Clock, Row, compared, measure_large
from torch import nn

from ddpmkit.runtime import Runtime


def test_a_system_is_measured() -> None:
    network = nn.Linear(8, 8, bias=False)

    def step() -> None:
        network(torch.ones(4, 8)).sum().backward()

    found = measure(System(network, step, lambda count: torch.zeros(count, 3, 8, 8)), steps=3, sample_batches=2)
    assert found["parameters"] == 64
    assert found["flops_a_step"] == 2 * 2 * 4 * 8 * 8  # forward, and backward to the weights
    assert min(found[name] for name in ("steps_per_second", "images_per_second", "peak_memory", "matmul_flops")) > 0


def test_ddpmkit_can_be_measured(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "cat").mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (40, 40), (60 * number, 0, 0)).save(tmp_path / split / "cat" / f"{number}.png")
    system = ddpmkit(Task(tmp_path))
    system.step()
    system.settle()
    system.averaged(False)
    images = system.sample(2)
    assert not torch.equal(images, system.sample(2))
    assert images.shape == (2, 3, 32, 32)
    assert 0 <= images.min() <= images.max() <= 1


def test_medians_become_a_table_with_ratios() -> None:
    rounds = [
        {
            **{"parameters": 2_000_000, "flops_a_step": 10e9, "steps_per_second": rate, "images_per_second": 8.0},
            **{"peak_memory": 1e9, "matmul_flops": 100e9},
        }
        for rate in (1.0, 4.0, 5.0)
    ]
    mine = median_of(rounds)
    text = table({"mine": mine, "theirs": {**mine, "steps_per_second": 2.0, "images_per_second": 2.0}})
    assert "| mine | 2,000,000 | 10.0 | 4.00 | 8.00 | 40% | 1,000 MB |" in text
    assert "mine / theirs: training 2.00x, sampling 4.00x" in text


def test_rows_of_a_gpu_become_a_table_with_the_reasons_of_missing_numbers() -> None:
    measured = Row("ddpmkit", "bfloat16", 32, generated=64, idle_share=0.04, kernels=700.0)
    measured.training, measured.sampling = [1000.0, 3000.0, 2000.0], [500.0]
    measured.take_medians()
    missing = Row("lucidrains", "float32", 32, problem="not measured: the package 'x' is not installed")
    text = throughput_table([dataclasses.asdict(row) for row in (measured, missing)])
    assert "| ddpmkit | bfloat16 | 32 | 2,000.0 | 500.0 (64) | - | 4% | 700 |" in text
    assert "| lucidrains | float32 | 32 | - | - | - | - | - |" in text
    assert "- lucidrains, float32, batch size 32: not measured: the package 'x' is not installed" in text


def test_systems_take_turns_and_a_missing_package_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def system(name: str) -> Callable[[Task], System]:
        def build(task: Task) -> System:
            def sample(count: int) -> torch.Tensor:
                order.append(f"{name} samples {count}")
                return torch.zeros(count, 3, 8, 8)

            return System(nn.Linear(2, 2), lambda: order.append(f"{name} trains"), sample)

        return build

    def missing(task: Task) -> System:
        raise ModuleNotFoundError("no", name="denoising_diffusion_pytorch")

    monkeypatch.setitem(systems.SYSTEMS, "ddpmkit", system("ours"))
    monkeypatch.setitem(systems.SYSTEMS, "diffusers", system("theirs"))
    monkeypatch.setitem(systems.SYSTEMS, "lucidrains", missing)
    clock = Clock(torch.device("cpu"), 1e-9, math.inf)
    saved: list[int] = []
    rows = compared(Task(tmp_path), 4, clock, lambda rows: saved.append(len(rows)))
    by_name = {row.system: row for row in rows}
    assert by_name["lucidrains"].problem == "not measured: the package 'denoising_diffusion_pytorch' is not installed"
    assert by_name["lucidrains"].images_per_second is None
    for name in ("ddpmkit", "diffusers"):
        assert by_name[name].problem is None
        assert len(by_name[name].training) == len(by_name[name].sampling) == 5
    measured = [each for each in order if "samples" in each]
    assert measured == ["ours samples 4", "theirs samples 4"] * 5
    assert len(saved) > 10


def test_a_measurement_ends_when_its_time_is_over(tmp_path: Path) -> None:
    clock = Clock(torch.device("cpu"), 1.0, -math.inf)
    rows = compared(Task(tmp_path), 4, clock, lambda rows: None)
    assert {row.problem for row in rows} == {"out of time"}


def test_large_networks_are_measured_relative_to_the_matmul_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runtime, "matmul_rate", lambda _runtime: 1e12)
    clock = Clock(torch.device("cpu"), 1e-9, -math.inf)
    row = Row("DiT", "bfloat16", 2)
    dit = {"use": "dit", "dim": 16, "depth": 1, "heads": 2, "patch_size": 16}
    measure_large(row, dit, Task(tmp_path, batch_size=2), False, clock)
    assert row.flops_a_step is not None
    # Forward and backward of one image: each weight of a matrix is used for all 16 tokens, three times, with 2 FLOP.
    of_tokens = 16 * (12 * 16 * 16 + 2 * 3 * 16 * 16 * 16)
    assert row.flops_a_step > 2 * 2 * of_tokens
    assert row.images_per_second is not None
    assert row.share_of_matmul_rate == pytest.approx(row.flops_a_step / 2 * row.images_per_second / 1e12)
