"""Finds operations for which the host waits for the device, or which copy between host and device.

Works without an accelerator: on the CPU, reading a value is recorded. Under `FakeTensorMode`, tensors can claim to be
on a GPU, so copies between host and device are recorded too.
"""

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Reading a value on the host; or a shape that depends on values, which the host must know.
_WAITS = ("_local_scalar_dense", "is_nonzero", "item", "equal", "nonzero", "masked_select", "_unique2", "unique_dim")


class HostSynchronisations(TorchDispatchMode):
    """Records these operations, each with the innermost place in the code outside of torch: `found`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in _WAITS or (name in ("index", "index_put", "index_put_") and _has_mask(args[1])):
            self.record(name)
        out = func(*args, **(kwargs or {}))
        # A tensor of one value on the host is sent with the kernel, without a copy.
        devices = {each.device.type for each in (*_tensors(args), *_tensors([out])) if each.device.type != "meta"}
        if name in ("_to_copy", "copy_", "to") and len(devices) > 1:
            self.record(f"{name} between {' and '.join(sorted(devices))}")
        return out

    def record(self, what: str) -> None:
        """Add what happened to `found`, with its place."""
        frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
        place = next(frame for frame in reversed(frames) if frame.filename != __file__)
        self.found.append(f"{what} at {place.filename}:{place.lineno}")


def synchronisations(work: Callable[[], object]) -> list[str]:
    """Return what waits or copies while `work` runs."""
    with HostSynchronisations() as recorded:
        work()
    return recorded.found


def _has_mask(indices: Sequence[Tensor | None]) -> bool:
    return any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in indices)


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor)]
