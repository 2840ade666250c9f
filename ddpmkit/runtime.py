"""Where the arithmetic happens: device, precision, repeatability.

The one place that asks torch what the machine has. It does not know what is computed.
"""

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
    """A device and the number format of the network's forward pass on it."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Mixed precision where `dtype` asks for it; weights and losses stay float32."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    @property
    def arithmetic(self) -> dict[str, str]:
        """What the last digit of a sum depends on here, beside torch's version: device, precision, threads."""
        precision = str(self.dtype).removeprefix("torch.")
        if self.device.type == "cuda":
            return {"device": torch.cuda.get_device_name(self.device), "precision": precision}
        if self.device.type != "cpu":
            return {"device": self.device.type, "precision": precision}
        # A sum is split among threads, and each part added up in vectors of the processor's width.
        return {
            "device": f"cpu ({torch.backends.cpu.get_cpu_capability()})",
            "precision": precision,
            "threads": str(torch.get_num_threads()),
        }

    def synchronize(self) -> None:
        """Wait until the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_memory(self) -> int | None:
        """Bytes: the most that the device held, or, on a CPU, the whole process. None where the system does not say."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        try:
            import resource  # not on Windows
        except ImportError:
            return None
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def matmul_rate(self, size: int = 2048) -> float:
        """FLOP/s of a matrix product in this number format: what the device can do at best, here and now."""
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
        """Keep cuDNN to algorithms that give the same bits each time, and put its settings back afterwards."""
        before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        try:
            yield
        finally:
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


def choose_runtime(device: str = "auto", precision: Literal["auto", "float32", "bfloat16"] = "auto") -> Runtime:
    """`auto` is the accelerator when there is one, and bfloat16 where it is native (CUDA, compute capability 8).

    Raises InputError for a device that torch does not know or does not have here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"train.device = {device!r} cannot be used here: {str(error).splitlines()[0]}",
            remedies=['train.device = "auto" takes what there is', 'train.device = "cpu" always works'],
        ) from error
    if precision == "auto":
        native = chosen.type == "cuda" and torch.cuda.get_device_capability(chosen) >= (8, 0)
        precision = "bfloat16" if native else "float32"
    return Runtime(chosen, torch.bfloat16 if precision == "bfloat16" else torch.float32)


@contextlib.contextmanager
def seeded_step(seed: int, device: torch.device) -> Iterator[None]:
    """Let a network that draws for itself, as dropout does, draw from `seed`; torch's generators are left as found."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextlib.contextmanager
def seeded_build(seed: int) -> Iterator[None]:
    """Build modules from torch's own generator at `seed`, and leave that generator as it was found."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that one seeds every accelerator's generator too, and nothing would put those back.
        torch.default_generator.manual_seed(seed)
        yield


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the machine, had no memory left; torch says so of a CPU and of MPS only in words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in safe_str(error) for words in _OUT_OF_MEMORY)


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next step, instead of giving it back to the system.

    A step on a CPU allocates and frees all its activations; asking the system for them anew, page by page, takes a
    tenth of the time or more. Works with glibc, for the whole process; elsewhere nothing happens.
    """
    # Windows has no name for the process itself as a library.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform != "win32" else None
    if mallopt is None:
        return
    for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        # glibc before 2.35 takes at most half of 64 MiB for the first.
        mallopt(parameter, 2**31 - 1) or mallopt(parameter, 2**25)
