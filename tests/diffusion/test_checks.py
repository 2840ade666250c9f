import math
import re

import pytest
import torch
from torch import Tensor

from ddpmkit.diffusion import GaussianDiffusion, check_alphas_cumprod
from ddpmkit.errors import InputError


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.7, 0.5, 0.6], "decrease strictly, and goes from 0.5 at t = 1 to 0.6 at t = 2"),
        ([0.5, 0.5], "decrease strictly, and goes from 0.5 at t = 0 to 0.5 at t = 1"),
        ([1.2, 0.5], "below 1 .*, and is 1.2 at t = 0"),
        ([1.0, 0.5], "below 1 .*, and is 1 at t = 0"),
        ([0.5, -0.1], "above 0 .*, and is -0.1 at t = 1"),
        ([0.5, 0.0, 0.0], "above 0 .*, and is 0 at t = 1"),
        ([0.5, math.nan, 0.4], "and is nan at t = 1"),
        ([], r"must be float64 \[T\], and is float64 \[0\]"),
    ],
)
def test_an_invalid_schedule_is_rejected(values: list[float], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        GaussianDiffusion(torch.tensor(values, dtype=torch.float64))


@pytest.mark.parametrize("values", [torch.tensor([0.5, 0.4]), torch.tensor([[0.5, 0.4]], dtype=torch.float64)])
def test_float32_and_matrices_are_rejected(values: Tensor) -> None:
    found = f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}"
    with pytest.raises(InputError, match=re.escape(f"alpha_bar must be float64 [T], and is {found}.")):
        GaussianDiffusion(values)


def test_another_length_than_expected_is_rejected() -> None:
    alpha_bar = torch.tensor([0.5, 0.4], dtype=torch.float64)
    check_alphas_cumprod(alpha_bar, 2)
    with pytest.raises(InputError, match=r"must be float64 \[3\], and is float64 \[2\]"):
        check_alphas_cumprod(alpha_bar, 3)
