"""The recorder finds each kind of wait, names its place, and finds nothing in work that stays on the device."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from host_synchronisations import synchronisations


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: float(x[0]),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.__setitem__(x > 0, torch.zeros(3)),
        lambda x: torch.equal(x, x),
    ],
)
def test_reading_a_value_is_found_with_its_place(work: Callable[[Tensor], object]) -> None:
    with torch.inference_mode():
        (found, *_) = synchronisations(lambda: work(torch.ones(3)))
    assert found.rpartition(":")[0].endswith("test_host_synchronisations.py")


def test_copies_between_host_and_device_are_found() -> None:
    def work() -> None:
        there = torch.zeros(3, device="cuda")
        there.copy_(torch.ones(3))
        there.cpu()
        torch.tensor([1, 2, 3], device="cuda")

    with FakeTensorMode(allow_non_fake_inputs=True):
        found = synchronisations(work)
    assert [each.partition(" at ")[0].split()[1:] for each in found] == [["between", "cpu", "and", "cuda"]] * 3


def test_work_that_stays_on_the_device_waits_for_nothing() -> None:
    def work() -> None:
        there = torch.full((3,), 2.0, device="cuda")
        times = torch.full((3,), 7, device="cuda")
        there.fill_(3).mul_(0.5)
        torch.arange(10, device="cuda")[times].add(there).clone()
        torch.where(there > 1, there, 0.0)

    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        assert synchronisations(work) == []
