"""The device and precision that a run computes with, and the settings that make it deterministic."""

import contextlib
import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from ddpmkit.errors import InputError, safe_str
from ddpmkit.float32_products import float32_products, set_float32_products

__all__ = ["Runtime", "choose_runtime", "is_compiler_error", "is_out_of_memory", "keep_freed_memory", "seeded_build"]


# From malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


@dataclass(frozen=True)
class Runtime:
    """A device, and how it computes the network."""

    device: torch.device
    dtype: torch.dtype
    """Of the network's forward pass."""
    tf32: bool = False
    """Whether products of float32 matrices and convolutions may use TF32, on CUDA devices that have it."""
    compiles: bool = False
    """Whether networks are compiled by torch.compile."""

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return a context of mixed precision if `dtype` is bfloat16; weights and losses stay float32."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    @property
    def precision(self) -> str:
        """The arithmetic of the network in words: "float32", "bfloat16", "float32, TF32, compiled"."""
        words = [str(self.dtype).removeprefix("torch.")]
        words += ["TF32"] if self.tf32 and self.device.type == "cuda" else []
        words += ["compiled"] if self.compiles else []
        return ", ".join(words)

    @property
    def arithmetic(self) -> dict[str, str]:
        """What rounding depends on, in addition to the version of torch: device, precision, number of threads."""
        if self.device.type == "cuda":
            return {"device": torch.cuda.get_device_name(self.device), "precision": self.precision}
        if self.device.type != "cpu":
            return {"device": self.device.type, "precision": self.precision}
        # A sum is split among threads, and each part is added in vectors of the width of the processor.
        return {
            "device": f"cpu ({torch.backends.cpu.get_cpu_capability()})",
            "precision": self.precision,
            "threads": str(torch.get_num_threads()),
        }

    @property
    def is_accelerator(self) -> bool:
        """Whether the device has memory of its own, and computes while the host does other work."""
        return self.device.type != "cpu"

    def synchronize(self) -> None:
        """Wait until the device has finished all queued work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def free_memory(self) -> int | None:
        """Return the free memory of a CUDA device in bytes; None for other devices."""
        return torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else None

    def peak_memory(self) -> int | None:
        """Return the peak memory in bytes, of the device or (CPU) of the process; None if the system reports none."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        try:
            import resource  # not on Windows
        except ImportError:
            return None
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def matmul_rate(self) -> float:
        """Return the FLOP/s of a product of large square matrices in `dtype`, the best of 6 on this device."""
        # A GPU multiplies the smaller size in less time than it takes to start.
        size = 8192 if self.device.type == "cuda" else 2048
        a = torch.randn(size, size, device=self.device, dtype=self.dtype)
        return 2 * size**3 / self._fewest_seconds(lambda: a @ a)

    def copy_rate(self) -> float:
        """Return the bytes/s, read and written, of a copy that no cache holds, the best of 6 on this device."""
        size = 2**29 if self.device.type == "cuda" else 2**27
        source = torch.zeros(size, dtype=torch.uint8, device=self.device)
        target = torch.zeros_like(source)
        return 2 * size / self._fewest_seconds(lambda: target.copy_(source))

    def _fewest_seconds(self, function: Callable[[], Tensor]) -> float:
        seconds = []
        for _ in range(6):
            self.synchronize()
            began = time.perf_counter()
            function()
            self.synchronize()
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    @contextlib.contextmanager
    def settings(self) -> Iterator[None]:
        """Limit cuDNN to deterministic algorithms, allow or forbid TF32, and restore torch's settings afterwards.

        Everything that computes with a network or scores images must be within it. By default, torch allows TF32 for
        convolutions.
        """
        cudnn = torch.backends.cudnn
        before = cudnn.deterministic, cudnn.benchmark
        products = float32_products()
        try:
            cudnn.deterministic, cudnn.benchmark = True, False
            set_float32_products(products.with_tf32(self.tf32))
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark = before
            set_float32_products(products)

    def prepare(self, network: nn.Module) -> nn.Module:
        """Compile `network` in place if `compiles`, and return it. The names of its weights stay.

        A copy of a compiled network is not compiled. The compiler starts at the first call.
        """
        if self.compiles and network._compiled_call_impl is None:
            network.compile()
        return network


def choose_runtime(
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    *,
    tf32: bool = False,
    compiles: bool = False,
) -> Runtime:
    """Return the runtime for the device and precision of a recipe.

    Device `auto` is CUDA if it is available, else the CPU. Precision `auto` is bfloat16 on CUDA devices that compute it
    natively, else float32. Raises InputError if the device is not available.
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
        precision = "bfloat16" if chosen.type == "cuda" and _has_bfloat16(chosen) else "float32"
    return Runtime(chosen, torch.bfloat16 if precision == "bfloat16" else torch.float32, tf32, compiles)


def _has_bfloat16(device: torch.device) -> bool:
    """Return whether a CUDA or ROCm device computes bfloat16 natively. Older devices only emulate it, slowly."""
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


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


def is_compiler_error(error: BaseException) -> bool:
    """Return whether torch.compile failed. An error that the network itself raises has its own type."""
    dynamo = sys.modules.get("torch._dynamo.exc")  # importing it takes a second, and only the compiler needs it
    return dynamo is not None and isinstance(error, cast("type[Exception]", dynamo.TorchDynamoException))


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
