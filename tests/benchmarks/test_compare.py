"""The benchmark scripts run; their results are not tested."""

from pathlib import Path

import torch
from compare import median_of, table
from PIL import Image
from systems import System, Task, ddpmkit, measure
from torch import nn


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
