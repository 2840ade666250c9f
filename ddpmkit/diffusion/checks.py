"""Checks the return values of a schedule and of a network."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddpmkit.errors import ContractError, InputError

__all__ = ["check_alphas_cumprod", "check_network_output", "describe"]


def check_alphas_cumprod(alphas_cumprod: Tensor, timesteps: int | None = None) -> None:
    """Raise InputError unless `alphas_cumprod` is float64 [T], in (0, 1) and strictly decreasing; the last may be 0.

    The message gives the first t at which it is wrong. `timesteps`: the expected T, if it is known.
    """
    if not isinstance(alphas_cumprod, Tensor):
        raise InputError(f"alpha_bar must be a float64 tensor [T], and is {describe(alphas_cumprod)}.")
    length = timesteps or max(1, alphas_cumprod.numel())
    if alphas_cumprod.dtype != torch.float64 or alphas_cumprod.shape != (length,):
        raise InputError(f"alpha_bar must be float64 [{timesteps or 'T'}], and is {describe(alphas_cumprod)}.")
    inside = (alphas_cumprod > 0) & (alphas_cumprod < 1)
    inside[-1] |= alphas_cumprod[-1] == 0
    if not bool(inside.all()):
        t = int(inside.int().argmin())
        raise InputError(
            f"alpha_bar must be above 0 and below 1 (the last may be 0), and is {alphas_cumprod[t]:.9g} at t = {t}."
        )
    rises = alphas_cumprod.diff() >= 0
    if bool(rises.any()):
        t = int(rises.int().argmax())
        raise InputError(
            f"alpha_bar must decrease strictly, and goes from {alphas_cumprod[t]:.9g} at t = {t} "
            f"to {alphas_cumprod[t + 1]:.9g} at t = {t + 1}."
        )


def check_network_output(output: Tensor, count: int, image_shape: Sequence[int], device: torch.device) -> None:
    """Raise ContractError unless `output` is float [count, C, H, W] or, with a learned variance, [count, 2C, H, W].

    `image_shape` is (C, H, W). The output must be on `device`, the device of the network's input.
    """
    channels, height, width = image_shape
    shapes = [(count, factor * channels, height, width) for factor in (1, 2)]
    if not isinstance(output, Tensor) or tuple(output.shape) not in shapes or not output.is_floating_point():
        raise ContractError("backbone", f"it must return float {list(shapes[0])}, not {describe(output)}")
    if output.device != device:
        raise ContractError("backbone", f"it must return a tensor on the device {device}, not {output.device}")


def describe(value: object) -> str:
    """Return dtype and shape, such as `float32 [4, 3, 32, 32]`, or the type of another value, such as `a list`."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
