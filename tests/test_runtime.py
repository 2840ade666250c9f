import contextlib
import os
import platform
import subprocess
import sys
from functools import partialmethod

import pytest
import torch
from torch import nn

from ddpmkit.errors import InputError
from ddpmkit.float32_products import float32_products
from ddpmkit.runtime import Runtime, choose_runtime, seeded_build


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


def cudnn_settings() -> tuple[bool, bool]:
    return torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark


@pytest.mark.parametrize("tf32", [False, True])
def test_settings_allow_or_forbid_tf32_everywhere_and_are_restored(tf32: bool) -> None:
    before = cudnn_settings(), float32_products()
    with contextlib.suppress(KeyError), choose_runtime("cpu", tf32=tf32).settings():
        assert cudnn_settings() == (True, False)
        # The old and the new interface of torch agree, so whoever asks either gets an answer.
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == tf32
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
        products = float32_products()
        assert {products.matmul, products.convolution, products.recurrent} == {"tf32" if tf32 else "ieee"}
        raise KeyError
    assert (cudnn_settings(), float32_products()) == before


def test_precision_names_tf32_on_cuda_and_the_compiler() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert Runtime(gpu, torch.float32, tf32=True).precision == "float32, TF32"
    assert Runtime(gpu, torch.bfloat16, compiles=True).precision == "bfloat16, compiled"
    assert Runtime(cpu, torch.float32, tf32=True).precision == "float32"


@pytest.mark.parametrize("is_native", [True, False])
def test_auto_precision_on_cuda_is_bfloat16_if_it_is_native(is_native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_supported(*, including_emulation: bool) -> bool:
        return is_native or including_emulation

    monkeypatch.setattr(torch, "empty", lambda *_size, **_options: None)
    monkeypatch.setattr(torch.cuda, "device", lambda _device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert choose_runtime("cuda").dtype == (torch.bfloat16 if is_native else torch.float32)


def test_a_network_is_compiled_in_place_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))
    network = nn.Linear(2, 2)
    assert choose_runtime("cpu").prepare(network)._compiled_call_impl is None
    compiled = choose_runtime("cpu", compiles=True).prepare(network)
    call = compiled._compiled_call_impl
    assert compiled is network
    assert call is not None
    assert choose_runtime("cpu", compiles=True).prepare(network)._compiled_call_impl is call
    assert list(network.state_dict()) == ["weight", "bias"]


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
