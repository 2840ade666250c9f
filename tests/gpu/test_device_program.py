"""A replayed graph does what the function does, and a function that waits for the device is not captured."""

import pytest
import torch

from ddpmkit.device_program import DeviceProgram, NotCapturable

pytestmark = pytest.mark.gpu


def test_a_replay_reads_the_new_inputs_and_the_new_seed(device: torch.device) -> None:
    value, total = torch.zeros(1000, device=device), torch.zeros(1000, device=device)

    def work() -> torch.Tensor:
        total.add_(torch.nn.functional.dropout(value, 0.5))
        return total * 2

    found = []
    for capture in (True, False):
        total.zero_()
        program = DeviceProgram(work, device, capture=capture)
        for step in range(8):
            value.fill_(step)
            torch.cuda.manual_seed(step)
            result = program()
        assert program.is_captured == capture
        found.append((total.clone(), result.clone()))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_gradients_are_computed_in_a_replay(device: torch.device) -> None:
    weight = torch.nn.Parameter(torch.ones(3, device=device))
    value = torch.ones(3, device=device)

    def step() -> None:
        weight.grad = None
        (weight * value).square().sum().backward()
        with torch.no_grad():
            weight.sub_(0.1 * weight.grad)

    program = DeviceProgram(step, device)
    for _ in range(6):
        program()
    assert program.is_captured
    torch.testing.assert_close(weight.detach(), torch.full((3,), 0.8**6, device=device))


def test_a_function_that_waits_for_the_device_runs_eagerly_and_is_reported_once(device: torch.device) -> None:
    value = torch.zeros((), device=device)
    reasons: list[Exception] = []

    def work() -> None:
        if value.item() < 100:
            value.add_(1)

    program = DeviceProgram(work, device, refused=reasons.append)
    for _ in range(5):
        program()
    assert value == 5
    assert not program.is_captured
    (reason,) = reasons
    assert isinstance(reason, NotCapturable)
    assert "test_device_program.py" in str(reason)


def test_an_error_during_the_capture_is_reported_and_the_device_still_works(device: torch.device) -> None:
    value = torch.zeros((), device=device)
    reasons: list[Exception] = []

    def work() -> None:
        value.add_(1)
        if torch.cuda.is_current_stream_capturing():
            raise ValueError("not while capturing")

    program = DeviceProgram(work, device, refused=reasons.append)
    for _ in range(5):
        program()
    assert value == 5
    assert [str(reason) for reason in reasons] == ["not while capturing"]
