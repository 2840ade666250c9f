"""The device and precision that a run computes with, and the settings that make it deterministic."""

import contextlib
import ctypes
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from ddpmkit.errors import InputError, safe_str

__all__ = ["Runtime", "choose_runtime", "is_out_of_memory", "keep_freed_memory", "seeded_build"]


# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


@dataclass(frozen=True)
class Runtime:
    """A device, and the dtype of the network's forward pass."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return a context of mixed precision if `dtype` is bfloat16; weights and losses stay float32."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    @property
    def arithmetic(self) -> dict[str, str]:
        """What rounding depends on, in addition to the version of torch: device, precision, number of threads."""
        precision = str(self.dtype).removeprefix("torch.")
        if self.device.type == "cuda":
            return {"device": torch.cuda.get_device_name(self.device), "precision": precision}
        if self.device.type != "cpu":
            return {"device": self.device.type, "precision": precision}
        # A sum is split among threads, and each part is added in vectors of the width of the processor.
        return {
            "device": f"cpu ({torch.backends.cpu.get_cpu_capability()})",
            "precision": precision,
            "threads": str(torch.get_num_threads()),
        }

    def synchronize(self) -> None:
        """Wait until the device has finished all queued work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_memory(self) -> int | None:
        """Return the peak memory in bytes, of the device or (CPU) of the process; None if the system reports none."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        try:
            import resource  # not on Windows
        except ImportError:
            return None
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def matmul_rate(self, size: int = 2048) -> float:
        """Return the FLOP/s of a product of [size, size] matrices in `dtype`, the best of 6 on this device."""
        a = torch.randn(size, size, device=self.device, dtype=self.dtype)
        seconds = []
        for _ in range(6):
            self.synchronize()
            began = time.perf_counter()
            a @ a
            self.synchronize()
            seconds.append(time.perf_counter() - began)
        return 2 * size**3 / min(seconds)

    @contextlib.contextmanager
    def deterministic(self) -> Iterator[None]:
        """Limit cuDNN to deterministic algorithms, and restore its settings afterwards."""
        before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        try:
            yield
        finally:
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


def choose_runtime(device: str = "auto", precision: Literal["auto", "float32", "bfloat16"] = "auto") -> Runtime:
    """Return the runtime for the device and precision of a recipe.

    Device `auto` is CUDA if it is available, else the CPU. Precision `auto` is bfloat16 if the device supports it
    natively (CUDA, compute capability 8 or more), else float32. Raises InputError if the device is not available.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"train.device = {device!r} is not available: {str(error).splitlines()[0]}",
            remedies=[
                'set train.device = "auto" to use an available device',
                'set train.device = "cpu", which always works',
            ],
        ) from error
    if precision == "auto":
        native = chosen.type == "cuda" and torch.cuda.get_device_capability(chosen) >= (8, 0)
        precision = "bfloat16" if native else "float32"
    return Runtime(chosen, torch.bfloat16 if precision == "bfloat16" else torch.float32)


@contextlib.contextmanager
def seeded_step(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, for networks that use them (dropout), and restore their state afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextlib.contextmanager
def seeded_build(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator, which initializes weights, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it also seeds the generators of all accelerators, which are not restored here.
        torch.default_generator.manual_seed(seed)
        yield


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the device or machine ran out of memory. For CPU and MPS, only the message states it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in safe_str(error) for words in _OUT_OF_MEMORY)


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next training step, instead of returning it to the system.

    A step on a CPU allocates and frees all its activations. Requesting them again from the system, page by page, takes
    a tenth of the time or more. The setting applies to the entire process. It has no effect without glibc.
    """
    # On Windows the process cannot be opened as a library.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform != "win32" else None
    if mallopt is None:
        return
    for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        # glibc before 2.35 takes at most half of 64 MiB for the first.
        mallopt(parameter, 2**31 - 1) or mallopt(parameter, 2**25)
