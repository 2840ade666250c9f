import torch

from ddpmkit.device_program import DeviceProgram

CPU = torch.device("cpu")


def test_a_program_on_the_cpu_calls_its_function_each_time() -> None:
    total = torch.zeros(())
    addend = torch.ones(())

    def add() -> torch.Tensor:
        return total.add_(addend)

    program = DeviceProgram(add, CPU)
    for value in (1.0, 2.0, 4.0, 8.0):
        addend.fill_(value)
        program()
    assert total == 15
    assert not program.is_captured
