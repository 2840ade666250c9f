import os
import platform
import subprocess
import sys

import pytest
import torch

from ddpmkit.errors import InputError
from ddpmkit.runtime import choose_runtime, seeded_build


def test_without_an_accelerator_auto_means_cpu_and_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    runtime = choose_runtime()
    assert (runtime.device.type, runtime.dtype) == ("cpu", torch.float32)


def test_arithmetic_names_device_precision_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    facts = choose_runtime("cpu", "bfloat16").arithmetic
    kernels = torch.backends.cpu.get_cpu_capability()
    assert facts == {"device": f"cpu ({kernels})", "precision": "bfloat16", "threads": "3"}


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta:x"])
def test_a_device_that_is_not_available_is_rejected(device: str) -> None:
    with pytest.raises(InputError, match=r"train\.device = .* is not available") as caught:
        choose_runtime(device)
    assert "auto" in str(caught.value)


def test_mixed_precision_multiplies_in_bfloat16_and_keeps_float32_weights() -> None:
    layer = torch.nn.Linear(4, 4)
    with choose_runtime("cpu", "bfloat16").autocast():
        assert layer(torch.ones(1, 4)).dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32


def test_weights_depend_on_the_seed_and_the_global_generator_is_restored() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded_build(1):
        first = torch.nn.Linear(4, 4).weight
    assert torch.equal(torch.rand(3), expected)
    with seeded_build(1):
        assert torch.equal(torch.nn.Linear(4, 4).weight, first)


def test_deterministic_restores_the_settings() -> None:
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    with choose_runtime("cpu").deterministic():
        assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == before


FAULTS_OF_A_STEP = """
import resource, sys, torch
from ddpmkit.runtime import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def step():
    activations = [torch.ones(2**20) for _ in range(20)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting belongs to glibc")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    # A fixed threshold: by default glibc adapts it to the sizes of freed blocks.
    strict = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", FAULTS_OF_A_STEP, how], env=strict))
        for how in ("kept", "returned")
    }
    assert faults["kept"] < 100 < faults["returned"]
