"""The device that a run would take, seen to compute.

It does not know what a run computes.
"""

import os
import shutil
import warnings

from ddpmkit.doctor.guard import in_one_line
from ddpmkit.errors import InputError
from ddpmkit.plugin.diagnosis import Diagnosis
from ddpmkit.plural import counted

__all__ = ["device"]

_GIB = 2**30


def device() -> Diagnosis:
    """What `train.device = "auto"` means here, its memory and number format, after a small product on it."""
    try:
        import torch

        from ddpmkit.runtime import choose_runtime
    except (Exception, SystemExit):
        return Diagnosis("device", "note", "not known while torch does not work")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            runtime = choose_runtime()
            ones = torch.ones(64, 64, device=runtime.device, dtype=runtime.dtype)
            right = bool((ones @ ones == 64).all())
        except (InputError, RuntimeError) as error:
            return _failed(error.message if isinstance(error, InputError) else in_one_line(error))
    if not right:
        return _failed("a product of two matrices comes out wrong")
    number_format = str(runtime.dtype).removeprefix("torch.")
    if runtime.device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        more = f", the first of {torch.cuda.device_count()}" if torch.cuda.device_count() > 1 else ""
        memory = f"{total / _GIB:.0f} GiB memory ({free / _GIB:.0f} free)"
        return Diagnosis("device", "ok", f"cuda: {torch.cuda.get_device_name()}{more}, {memory}, {number_format}")
    finding = f"cpu: {counted(torch.get_num_threads(), 'thread')}{_memory()}, {number_format}"
    if torch.backends.mps.is_available():
        return Diagnosis("device", "ok", f'{finding}; mps is there too, for recipes with train.device = "mps"')
    if shutil.which("nvidia-smi") is None:
        return Diagnosis("device", "ok", finding)
    reason = next((str(one.message).partition("\n")[0] for one in heard), "torch sees no CUDA device")
    if torch.version.cuda is None:
        reason = "this torch is built without CUDA"
    return Diagnosis(
        "device",
        "note",
        f"{finding}; there is an NVIDIA driver, and {reason}",
        ("nvidia-smi  shows driver and cards", "https://pytorch.org/get-started/locally names the build for a driver"),
    )


def _failed(reason: str) -> Diagnosis:
    return Diagnosis(
        "device",
        "problem",
        reason,
        (
            "https://pytorch.org/get-started/locally names the torch build for a card and its driver",
            "--set train.device=cpu  goes without it",
        ),
    )


def _memory() -> str:
    """Of the machine, where the system tells."""
    try:
        return f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GIB:.0f} GiB memory"
    except (AttributeError, ValueError, OSError):
        return ""
