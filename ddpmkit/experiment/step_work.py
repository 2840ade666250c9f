"""Counts the work of a training step: bytes that its operators read and write, kernels, the time they take."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["ByteCounter", "Kernels", "count_kernels", "kernels_in"]

_aten = torch.ops.aten
_ALLOCATIONS = frozenset({_aten.empty, _aten.empty_like, _aten.empty_strided, _aten.new_empty, _aten.new_empty_strided})
_OVERWRITES = frozenset({_aten.copy_, _aten.fill_, _aten.zero_})
_GATHERS = frozenset({_aten.index, _aten.index_select, _aten.gather, _aten.embedding})


class ByteCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Adds up the bytes that operators read and write, if each reads its inputs and writes its outputs once: `total`.

    This is the traffic of a program without fused operators. Caches reduce what reaches the memory; workspaces inside
    an operator add to it. Views and allocations count nothing, and a gather reads as much as it writes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the operator and count it."""
        kwargs = kwargs or {}
        results = func(*args, **kwargs)
        operator = getattr(func, "overloadpacket", func)
        if getattr(func, "is_view", False) or operator in _ALLOCATIONS:
            return results
        inputs, outputs = _tensors((args, kwargs)), _tensors(results)
        # An operator in place returns what it changes, except for one on a list of tensors.
        changed = _changed_arguments(func, args, kwargs)
        written = _bytes([*outputs, *changed])
        if operator in _OVERWRITES:
            inputs = _tensors((args[1:], kwargs))
        if operator in _GATHERS:
            inputs = [*_tensors((args[1:], kwargs)), *outputs]
        # Some operators, such as a reshape without a copy, return a view although they are not declared as views.
        stored = {tensor.untyped_storage().data_ptr() for tensor in inputs}
        is_view = outputs and all(each.untyped_storage().data_ptr() in stored for each in outputs)
        if is_view and not changed and operator not in _GATHERS:
            return results
        self.total += _bytes(inputs) + written
        return results


class Kernels(NamedTuple):
    """Kernels and copies on the device in one step, and the seconds that they take."""

    number: float
    seconds: float


def count_kernels(step: Callable[[], object], steps: int) -> Kernels:
    """Return the mean over `steps` calls of `step`, as torch's profiler measures them on a CUDA device."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    return kernels_in(profiler.key_averages(), steps)


def kernels_in(rows: Any, steps: int) -> Kernels:
    """Return the kernels of a step from the rows of a profile over `steps` steps, with times in microseconds."""
    # A range of user annotations is listed on the device too, with the time of the kernels within it.
    rows = [row for row in rows if row.device_type.name == "CUDA" and not row.is_user_annotation]
    microseconds = sum(row.self_device_time_total for row in rows)
    return Kernels(sum(row.count for row in rows) / steps, 1e-6 * microseconds / steps)


def _tensors(values: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _changed_arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    schema = getattr(func, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    names = [argument.name for argument in schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return _tensors(
        [given.get(each.name) for each in schema.arguments if each.alias_info is not None and each.alias_info.is_write]
    )


def _bytes(tensors: list[Tensor]) -> int:
    """Return the bytes of different tensors; a value that is expanded counts once."""
    sizes = {(each.data_ptr(), each.shape, each.stride()): _stored_bytes(each) for each in tensors}
    return sum(sizes.values())


def _stored_bytes(tensor: Tensor) -> int:
    sizes = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or not size)
    return math.prod(sizes) * tensor.element_size()
