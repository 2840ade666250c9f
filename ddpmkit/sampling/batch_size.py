"""The number of images that are generated at once, if the recipe leaves it to ddpmkit."""

from collections.abc import Callable

import torch

__all__ = ["choose_batch_size", "largest_fitting"]

_WITHOUT_MEASUREMENT = 64
_MOST = 1024
_TRIAL = 16
_SHARE = 0.25
"""Of the free memory. The rest is left for the tensors of the sampler, other programs, and what the trial misses."""


def choose_batch_size(call: Callable[[int], object], device: torch.device) -> int:
    """Return the batch size for `device`: 64 on the CPU and on MPS; on CUDA it depends on the free memory.

    `call(n)` evaluates the network once for n images. Its peak memory for 16 images is measured, and is assumed to grow
    in proportion, which overestimates it. Raises torch.OutOfMemoryError if not even one image fits.
    """
    if device.type != "cuda":
        return _WITHOUT_MEASUREMENT
    images = _TRIAL
    while True:
        try:
            return largest_fitting(_peak_memory(call, images, device) / images, _free_memory(device))
        except torch.OutOfMemoryError:
            if images == 1:
                raise
        images //= 2


def largest_fitting(bytes_per_image: float, free: int) -> int:
    """Return the largest power of two in 1 .. 1,024 whose images need at most a quarter of `free` bytes; at least 1."""
    size = _MOST
    while size > 1 and size * bytes_per_image > _SHARE * free:
        size //= 2
    return size


def _peak_memory(call: Callable[[int], object], images: int, device: torch.device) -> int:
    """Return the bytes that a call needs at its peak."""
    call(images)  # compiles the network and allocates the workspaces of its kernels, which stay
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call(images)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _free_memory(device: torch.device) -> int:
    """Return the bytes that the device has free, and those that torch keeps for later tensors."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
