"""The network calls of sampling. On CUDA, each is the replay of a graph over tensors whose memory stays the same."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape
from ddpmkit.device_program import DeviceProgram, only_once
from ddpmkit.diffusion.checks import check_network_output
from ddpmkit.global_state import Guard
from ddpmkit.runtime import Runtime

__all__ = ["EagerNetwork", "NetworkCalls"]


@dataclass(frozen=True)
class EagerNetwork:
    """Calls a network in the precision of its runtime, and checks what it returns."""

    network: nn.Module = field(repr=False)
    image_shape: ImageShape
    runtime: Runtime
    guard: Guard

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        """Return the output for x [B, C, H, W], t int64 [B] and label int64 [B]. Raises ContractError."""
        with self.runtime.autocast(), self.guard("backbone"):
            out: Tensor = self.network(x, t, label)
        check_network_output(out, len(x), self.image_shape, x.device)
        return out


class _Inputs(NamedTuple):
    x: Tensor
    t: Tensor
    label: Tensor | None


class NetworkCalls:
    """Calls a network as `EagerNetwork` does, through one `DeviceProgram` for each shape of its input.

    The programs are kept, so all batches of one shape share a graph.
    """

    def __init__(self, network: EagerNetwork, not_captured: Callable[[Exception], None]) -> None:
        """`not_captured` is called once, with the reason, if the network cannot be captured in a CUDA graph."""
        self._network = network
        self._not_captured = only_once(not_captured)
        self._programs: dict[object, tuple[_Inputs, DeviceProgram[Tensor]]] = {}

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        """Return the output for x [B, C, H, W], t int64 [B] and label int64 [B]. Raises ContractError."""
        if torch.is_grad_enabled():
            return self._network(x, t, label)  # of a sampler that differentiates the network
        inputs, program = self._program(x, t, label)
        inputs.x.copy_(x)
        inputs.t.copy_(t)
        if inputs.label is not None and label is not None:
            inputs.label.copy_(label)
        # A replay overwrites its output, and the output of a network may be its input.
        return program().clone()

    def _program(self, x: Tensor, t: Tensor, label: Tensor | None) -> tuple[_Inputs, DeviceProgram[Tensor]]:
        # The strides are part of the key, because a convolution may round differently in another memory layout.
        key = x.shape, x.stride(), x.dtype, label is None
        if key not in self._programs:
            # In inference mode, these tensors could only be changed in inference mode. A sampler may leave it.
            with torch.inference_mode(False):
                kept = None if label is None else torch.empty_like(label)
                inputs = _Inputs(torch.empty_like(x), torch.empty_like(t), kept)
            program = DeviceProgram(_call(self._network, inputs), x.device, refused=self._not_captured)
            self._programs[key] = inputs, program
        return self._programs[key]


def _call(network: EagerNetwork, inputs: _Inputs) -> Callable[[], Tensor]:
    # Not a method: a cycle of references would keep the graph and its memory until the next garbage collection.
    return lambda: network(*inputs)
