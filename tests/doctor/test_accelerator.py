import shutil
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from ddpmkit import runtime
from ddpmkit.doctor.accelerator import device
from ddpmkit.errors import InputError


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without an accelerator and without a driver, whatever the tests run on."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    return monkeypatch


@pytest.mark.parametrize(("count", "threads"), [(1, "1 thread"), (2, "2 threads")])
def test_a_cpu(cpu: pytest.MonkeyPatch, count: int, threads: str) -> None:
    cpu.setattr(torch, "get_num_threads", lambda: count)
    found = device()
    assert found.state == "ok"
    assert found.finding.startswith(f"cpu: {threads}, ")
    assert found.finding.endswith("float32")


def test_mps_is_mentioned_for_it_is_taken_only_when_asked_for(cpu: pytest.MonkeyPatch) -> None:
    cpu.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device().finding.endswith('mps is there too, for recipes with train.device = "mps"')


def test_a_gpu_is_named_with_its_memory_and_number_format(cpu: pytest.MonkeyPatch) -> None:
    ones, gpu = torch.ones, SimpleNamespace(device=SimpleNamespace(type="cuda"), dtype=torch.bfloat16)
    cpu.setattr(runtime, "choose_runtime", lambda: gpu)
    cpu.setattr(torch, "ones", lambda *shape, device, dtype: ones(*shape, dtype=dtype))
    cpu.setattr(torch.cuda, "mem_get_info", lambda: (100 * 2**30, 139 * 2**30))
    cpu.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    cpu.setattr(torch.cuda, "device_count", lambda: 1)
    assert device().finding == "cuda: NVIDIA H200, 139 GiB memory (100 free), bfloat16"
    cpu.setattr(torch.cuda, "device_count", lambda: 4)
    assert device().finding == "cuda: NVIDIA H200, the first of 4, 139 GiB memory (100 free), bfloat16"


def test_a_driver_that_torch_cannot_use_is_a_note_with_torchs_own_reason(cpu: pytest.MonkeyPatch) -> None:
    def is_available() -> bool:
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old.\nUpdate it", stacklevel=2)
        return False

    cpu.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    cpu.setattr(torch.cuda, "is_available", is_available)
    cpu.setattr(torch.version, "cuda", "13.2")
    found = device()
    assert found.state == "note"
    assert found.finding.endswith(
        "there is an NVIDIA driver, and CUDA initialization: The NVIDIA driver on your system is too old."
    )
    cpu.setattr(torch.version, "cuda", None)
    assert device().finding.endswith("and this torch is built without CUDA")


def test_a_device_that_does_not_compute_is_a_problem(cpu: pytest.MonkeyPatch) -> None:
    def refuse() -> runtime.Runtime:
        raise InputError("train.device = 'cuda' cannot be used here: no kernel image")

    for failure, said in (
        (refuse, "no kernel image"),
        (lambda: SimpleNamespace(device=torch.device("nowhere"), dtype=torch.float32), "RuntimeError: "),
    ):
        cpu.setattr(runtime, "choose_runtime", failure)
        found = device()
        assert found.state == "problem"
        assert said in found.finding
        assert "--set train.device=cpu  goes without it" in found.remedies


def test_a_device_that_computes_wrongly_is_a_problem(cpu: pytest.MonkeyPatch) -> None:
    cpu.setattr(torch.Tensor, "__matmul__", lambda left, right: left)
    assert (device().state, device().finding) == ("problem", "a product of two matrices comes out wrong")


def test_without_torch_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert (device().state, device().finding) == ("note", "not known while torch does not work")
