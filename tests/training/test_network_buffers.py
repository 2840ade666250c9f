import pytest
import torch
from torch import Tensor, nn

from ddpmkit.training.network_buffers import NetworkBuffers


class Statistics(nn.Module):
    """A running mean that is changed in place, and one that is replaced in each call."""

    mean: Tensor
    replaced: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("replaced", torch.zeros(2))
        self.register_buffer("nothing", None)

    def forward(self, x: Tensor) -> Tensor:
        self.mean.lerp_(x, 0.5)
        self.replaced = self.replaced.lerp(x, 0.5)
        return x


@pytest.mark.parametrize("is_applied", [True, False])
def test_new_values_are_kept_only_if_the_step_is_applied(is_applied: bool) -> None:
    network = nn.Sequential(Statistics())
    buffers = NetworkBuffers(network)
    addresses = [buffer.data_ptr() for buffer in network.buffers()]
    expected = 0.0
    for value in (4.0, 8.0):
        buffers.save()
        network(torch.full((2,), value))
        network(torch.full((2,), value))
        buffers.finish(torch.tensor(is_applied))
        expected = (expected + 3 * value) / 4 if is_applied else 0.0
        assert [buffer.tolist() for buffer in network.buffers()] == [[expected] * 2] * 2
    # A CUDA graph reads the tensors that it was captured with.
    assert [buffer.data_ptr() for buffer in network.buffers()] == addresses


def test_a_value_that_is_not_finite_is_not_kept() -> None:
    network = Statistics()
    buffers = NetworkBuffers(network)
    buffers.save()
    network(torch.full((2,), torch.nan))
    buffers.finish(torch.tensor(False))
    assert [buffer.tolist() for buffer in network.buffers()] == [[0.0] * 2] * 2


def test_an_error_restores_the_values() -> None:
    network = Statistics()
    buffers = NetworkBuffers(network)
    kept = dict(network.named_buffers())
    buffers.save()
    network(torch.ones(2))
    buffers.restore()
    assert all(buffer is kept[name] and not buffer.any() for name, buffer in network.named_buffers())
