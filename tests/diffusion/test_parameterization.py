import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit.errors import InputError

Make = Callable[..., Tensor]
MakeProcess = Callable[..., GaussianDiffusion]
PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "x0", "v")


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_correct_prediction_recovers_x0_and_eps(
    process: MakeProcess, images: Make, noise: Make, prediction: Prediction
) -> None:
    diffusion = process(prediction=prediction)
    x0, eps, t = images(), noise(), torch.tensor([0, 10, 30, 45])
    x = diffusion.q_sample(x0, t, eps)
    found = diffusion.denoised(diffusion.target(x0, t, eps), x, t)
    torch.testing.assert_close(found.x0, x0, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.eps, eps, rtol=1e-3, atol=1e-3)


def test_every_prediction_recovers_the_same_x0_and_eps(process: MakeProcess, images: Make, noise: Make) -> None:
    """At every t of 50, in float64. The buffers are still float32, so a² + b² = 1 to 1e-7."""
    t = torch.arange(50)
    x0, eps = images(50).double(), noise(50).double()
    for prediction in PREDICTIONS:
        diffusion = process(prediction=prediction).double()
        x = diffusion.q_sample(x0, t, eps)
        found = diffusion.denoised(diffusion.target(x0, t, eps), x, t)
        torch.testing.assert_close((found.x0, found.eps), (x0, eps), rtol=1e-6, atol=1e-6)


def test_at_the_last_timestep_x0_hat_amplifies_an_error_of_eps_a_thousand_times(
    process: MakeProcess, noise: Make
) -> None:
    diffusion = process()
    x, t = noise(1), torch.tensor([49])
    shift = diffusion.denoised(x + 1e-3, x, t).x0 - diffusion.denoised(x, x, t).x0
    assert shift.mean().item() == pytest.approx(-1.015, rel=1e-3)


def test_v_is_defined_as_by_salimans_and_ho(process: MakeProcess, images: Make, noise: Make) -> None:
    diffusion = process(prediction="v")
    x0, eps, t = images(1), noise(1), torch.tensor([20])
    alpha, sigma = math.sqrt(diffusion.alpha_bar_at(20)), math.sqrt(1 - diffusion.alpha_bar_at(20))
    torch.testing.assert_close(diffusion.target(x0, t, eps), alpha * eps - sigma * x0)


def test_a_schedule_that_ends_at_zero_needs_another_prediction_than_eps() -> None:
    alpha_bar = torch.tensor([0.9, 0.0], dtype=torch.float64)
    with pytest.raises(InputError, match="cannot be recovered from eps"):
        GaussianDiffusion(alpha_bar, "epsilon")
    for prediction in ("x0", "v"):
        GaussianDiffusion(alpha_bar, prediction)
