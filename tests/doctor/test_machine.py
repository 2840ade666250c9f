import errno
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ddpmkit import runtime
from ddpmkit.doctor.machine import device, folder
from ddpmkit.errors import InputError


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without an accelerator and without a driver."""
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


def test_mps_is_mentioned(cpu: pytest.MonkeyPatch) -> None:
    cpu.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device().finding.endswith('mps is available for recipes with train.device = "mps"')


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


def test_a_driver_that_torch_cannot_use_is_a_note_with_torchs_reason(cpu: pytest.MonkeyPatch) -> None:
    def is_available() -> bool:
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old.\nUpdate it", stacklevel=2)
        return False

    cpu.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    cpu.setattr(torch.cuda, "is_available", is_available)
    cpu.setattr(torch.version, "cuda", "13.2")
    found = device()
    assert found.state == "note"
    assert found.finding.endswith(
        "an NVIDIA driver is installed, but CUDA initialization: The NVIDIA driver on your system is too old."
    )
    cpu.setattr(torch.version, "cuda", None)
    assert device().finding.endswith("but this torch is built without CUDA")


def test_a_device_that_does_not_compute_is_a_problem(cpu: pytest.MonkeyPatch) -> None:
    def refuse() -> runtime.Runtime:
        raise InputError("train.device = 'cuda' cannot be used here: no kernel image")

    for failure, message in (
        (refuse, "no kernel image"),
        (lambda: SimpleNamespace(device=torch.device("nowhere"), dtype=torch.float32), "RuntimeError: "),
    ):
        cpu.setattr(runtime, "choose_runtime", failure)
        found = device()
        assert found.state == "problem"
        assert message in found.finding
        assert "add --set train.device=cpu to use the CPU instead" in found.remedies


def test_a_device_that_computes_wrongly_is_a_problem(cpu: pytest.MonkeyPatch) -> None:
    cpu.setattr(torch.Tensor, "__matmul__", lambda left, right: left)
    assert (device().state, device().finding) == ("problem", "the product of two matrices is wrong")


def test_without_torch_the_device_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert (device().state, device().finding) == ("note", "unknown, because torch does not work")


def check(path: Path) -> tuple[str, str, tuple[str, ...]]:
    found = folder("here", path, remedy="use another folder")
    return found.state, found.finding, found.remedies


@pytest.mark.parametrize(
    ("free", "state"), [(6e9, "ok"), (4e9, "note"), (1e8, "problem")], ids=["plenty", "little", "almost none"]
)
def test_free_space_determines_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, state: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=int(free)))
    found = check(tmp_path)
    assert found[0] == state
    assert f"{tmp_path}, {free / 1e9:.1f} GB free" in found[1]
    assert ("use another folder" in found[2]) == (state != "ok")


def test_a_missing_folder_is_checked_in_its_parent_and_not_created(tmp_path: Path) -> None:
    state, finding, _ = check(tmp_path / "a" / "b")
    assert state in ("ok", "note")
    assert str(tmp_path / "a" / "b") in finding
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_a_folder_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    state, finding, remedies = check(tmp_path / "cache" / "images")
    assert (state, finding) == ("problem", f"{tmp_path / 'cache' / 'images'} is not writable: not a directory")
    assert remedies == (f"run `ls -ld {tmp_path / 'cache'}` to see the owner", "use another folder")


def test_a_failed_write_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> object:
        raise OSError(errno.EROFS, "Read-only file system", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert check(tmp_path)[1] == f"{tmp_path} is not writable: read-only file system"


def test_a_write_beyond_the_file_size_limit_is_a_problem(tmp_path: Path) -> None:
    import resource
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        assert check(tmp_path)[0] == "problem"
    finally:
        signal.signal(signal.SIGXFSZ, before)
