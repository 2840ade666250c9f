from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # torch's types lack it

from ddpmkit.experiment.step_work import ByteCounter, kernels_in

A = torch.ones(10, 20)


def test_a_product_reads_its_factors_and_writes_its_result() -> None:
    with ByteCounter() as counter:
        A.T @ torch.empty(10, 5)
    assert counter.total == 4 * (10 * 20 + 10 * 5 + 20 * 5)


def test_views_and_allocations_move_nothing() -> None:
    with ByteCounter() as counter:
        A.view(20, 10).T[2:].reshape(8, 20, 1).expand(8, 20, 50).detach()
        torch.empty_like(A)
    assert counter.total == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a, b: a.add_(b), 3),
        (lambda a, b: a.copy_(b), 2),
        (lambda a, _: a.zero_(), 1),
        (lambda a, b: torch._foreach_add_([a], [b]), 3),
        (lambda a, b: torch.add(a[:1].expand(10, 20), b), 2.1),
    ],
)
def test_changes_in_place(change: object, expected: float) -> None:
    with ByteCounter() as counter:
        change(A.clone(), A.clone())  # type: ignore[operator]  # a lambda
    clones = 4
    assert counter.total / A.nbytes == pytest.approx(clones + expected)


def test_a_gather_reads_as_much_as_it_writes() -> None:
    rows = torch.tensor([1, 1, 2])
    with ByteCounter() as counter:
        A[rows]
    assert counter.total == rows.nbytes + 2 * 3 * 20 * 4


def test_the_backward_pass_counts() -> None:
    layer = nn.Linear(20, 5, bias=False)
    with ByteCounter() as forward:
        out = layer(A)
    with ByteCounter() as backward:
        out.backward(torch.ones(10, 5))
    assert forward.total == 4 * (200 + 100 + 50)
    assert backward.total >= 4 * (200 + 100 + 50)


def row(device: DeviceType, count: int, microseconds: float, *, is_user_annotation: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        device_type=device,
        count=count,
        self_device_time_total=microseconds,
        is_user_annotation=is_user_annotation,
    )


def test_kernels_are_the_rows_of_the_device_that_are_no_annotations() -> None:
    rows = [
        row(DeviceType.CUDA, 30, 4000.0),
        row(DeviceType.CUDA, 10, 1000.0),
        row(DeviceType.CUDA, 5, 5000.0, is_user_annotation=True),
        row(DeviceType.CPU, 7, 0.0),
    ]
    kernels = kernels_in(rows, steps=5)
    assert kernels.number == 8
    assert kernels.seconds == pytest.approx(1e-3)
