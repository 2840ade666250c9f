"""Puts the buffers of a network back if a training step fails or is not applied."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["NetworkBuffers"]


class _Buffer(NamedTuple):
    module: nn.Module
    name: str
    value: Tensor
    before: Tensor
    """The value before the step."""


class NetworkBuffers:
    """The buffers that a network has when training starts, such as the statistics of batch normalization.

    They keep their memory: a network may replace a buffer in its forward pass, but a CUDA graph reads the tensor that
    was there during the capture.
    """

    def __init__(self, network: nn.Module) -> None:
        self._buffers = [
            _Buffer(module, name, value, value.clone())
            for module in network.modules()
            for name, value in module._buffers.items()
            if value is not None
        ]

    def save(self) -> None:
        """Remember the values. Call it at the start of a step."""
        for buffer in self._buffers:
            buffer.module._buffers[buffer.name] = buffer.value  # a capture that failed may have replaced it
            buffer.before.copy_(buffer.value)

    def finish(self, is_applied: Tensor) -> None:
        """Keep the new values if `is_applied`, bool []; otherwise restore those of `save`."""
        for module, name, value, before in self._buffers:
            found = module._buffers[name]
            if found is not None and found is not value and found.shape == value.shape:
                value.copy_(found.detach())
                module._buffers[name] = value
            value.copy_(torch.where(is_applied, value, before))

    def restore(self) -> None:
        """Restore the values of `save`, after an error."""
        for module, name, value, before in self._buffers:
            module._buffers[name] = value
            value.copy_(before)
