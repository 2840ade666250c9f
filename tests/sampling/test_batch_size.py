"""The automatic batch size."""

import pytest
import torch

from ddpmkit.sampling.batch_size import choose_batch_size, largest_fitting

MIB = 2**20


@pytest.mark.parametrize(
    ("bytes_per_image", "free", "expected"),
    [
        (1 * MIB, 400 * MIB, 64),  # 100 fit into a quarter
        (1 * MIB, 512 * MIB, 128),  # exactly
        (1 * MIB, 512 * MIB - 1, 64),
        (1 * MIB, 10**6 * MIB, 1024),  # the most
        (100 * MIB, 200 * MIB, 1),  # half an image fits
        (0, 0, 1024),
    ],
)
def test_the_largest_power_of_two_that_needs_a_quarter_of_the_free_memory(
    bytes_per_image: float, free: int, expected: int
) -> None:
    assert largest_fitting(bytes_per_image, free) == expected


def test_on_the_cpu_it_is_64_without_a_trial() -> None:
    def call(_images: int) -> None:
        raise AssertionError

    assert choose_batch_size(call, torch.device("cpu")) == 64


def test_the_trial_is_repeated_with_fewer_images_if_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with 1 GiB, of which an image needs 100 MiB. Two of them fit into a quarter."""
    tried: list[int] = []

    def call(images: int) -> None:
        tried.append(images)
        if images * 100 * MIB > 1024 * MIB:
            raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _device: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 7 * MIB)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 7 * MIB)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: (7 + tried[-1] * 100) * MIB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (1024 * MIB, 2048 * MIB))
    assert choose_batch_size(call, torch.device("cuda")) == 2
    assert tried == [16, 8, 8]
