"""Checks of the machine: the device that a run would use, and the folders it would write to."""

import os
import shutil
import tempfile
import warnings
from pathlib import Path

from ddpmkit.doctor.diagnose import one_line
from ddpmkit.errors import InputError
from ddpmkit.plugin.diagnosis import Diagnosis
from ddpmkit.plural import counted

__all__ = ["device", "folder"]

_GIB = 2**30
_SCARCE_BYTES = 5e9
"""A run with its checkpoints and images, and a decoded dataset, fit into this."""
_TOO_FEW_BYTES = 2e8
"""Less than three checkpoints of a small model."""


def device() -> Diagnosis:
    """The device of `train.device = "auto"`, its memory and number format, after a small matrix product on it."""
    try:
        import torch

        from ddpmkit.runtime import choose_runtime
    except (Exception, SystemExit):
        return Diagnosis("device", "note", "unknown, because torch does not work")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            runtime = choose_runtime()
            ones = torch.ones(64, 64, device=runtime.device, dtype=runtime.dtype)
            correct = bool((ones @ ones == 64).all())
        except (InputError, RuntimeError) as error:
            return _device_problem(error.message if isinstance(error, InputError) else one_line(error))
    if not correct:
        return _device_problem("the product of two matrices is wrong")
    number_format = str(runtime.dtype).removeprefix("torch.")
    if runtime.device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        which = f", the first of {torch.cuda.device_count()}" if torch.cuda.device_count() > 1 else ""
        memory = f"{total / _GIB:.0f} GiB memory ({free / _GIB:.0f} free)"
        return Diagnosis("device", "ok", f"cuda: {torch.cuda.get_device_name()}{which}, {memory}, {number_format}")
    finding = f"cpu: {counted(torch.get_num_threads(), 'thread')}{_system_memory()}, {number_format}"
    if torch.backends.mps.is_available():
        return Diagnosis("device", "ok", f'{finding}; mps is available for recipes with train.device = "mps"')
    if shutil.which("nvidia-smi") is None:
        return Diagnosis("device", "ok", finding)
    reason = next((str(warning.message).partition("\n")[0] for warning in caught), "torch finds no CUDA device")
    if torch.version.cuda is None:
        reason = "this torch is built without CUDA"
    return Diagnosis(
        "device",
        "note",
        f"{finding}; an NVIDIA driver is installed, but {reason}",
        (
            "run `nvidia-smi` to see the driver and the cards",
            "see https://pytorch.org/get-started/locally for the torch build for each driver",
        ),
    )


def folder(subject: str, path: Path, *, remedy: str) -> Diagnosis:
    """Whether `path` is writable, and its free space. Writes a temporary file and removes it.

    If `path` does not exist, the closest existing parent is checked. `remedy` says how to use another folder.
    """
    present = next(place for place in (path, *path.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=present) as probe:
            probe.write(b"ddpmkit" * 1000)
            probe.flush()
        free = shutil.disk_usage(present).free
    except OSError as error:
        finding = f"{path} is not writable: {(error.strerror or str(error)).lower()}"
        return Diagnosis(subject, "problem", finding, (f"run `ls -ld {present}` to see the owner", remedy))
    finding = f"{path}, {free / 1e9:,.1f} GB free"
    if free >= _SCARCE_BYTES:
        return Diagnosis(subject, "ok", finding)
    remedies = (f"run `df -h {present}` to see the disk", remedy)
    return Diagnosis(subject, "problem" if free < _TOO_FEW_BYTES else "note", f"{finding}: little for a run", remedies)


def _device_problem(reason: str) -> Diagnosis:
    return Diagnosis(
        "device",
        "problem",
        reason,
        (
            "see https://pytorch.org/get-started/locally for the torch build for each card and driver",
            "add --set train.device=cpu to use the CPU instead",
        ),
    )


def _system_memory() -> str:
    """Empty if the system does not report it."""
    try:
        return f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GIB:.0f} GiB memory"
    except (AttributeError, ValueError, OSError):
        return ""
