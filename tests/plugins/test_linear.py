import pytest
import torch
from diffusers import DDPMScheduler
from pydantic import ValidationError
from torch import Tensor

from ddpmkit.diffusion import GaussianDiffusion, coefficients
from ddpmkit_plugins.linear import LinearConfig
from ddpmkit_plugins.linear.schedule import LinearSchedule


def alpha_bar(timesteps: int, config: LinearConfig | None = None) -> Tensor:
    return LinearSchedule(config or LinearConfig(), timesteps=timesteps).alphas_cumprod()


def test_it_equals_diffusers_within_1e_6() -> None:
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    variance = torch.stack([theirs._get_variance(t) for t in range(1000)])
    ours = GaussianDiffusion(alpha_bar(1000))
    torch.testing.assert_close(1 - ours.alpha_t, theirs.betas, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.alpha_bar, theirs.alphas_cumprod, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.posterior_variance, variance, rtol=0, atol=1e-6)


def test_with_1000_timesteps_the_betas_are_those_of_the_paper() -> None:
    """Ho et al. (2020), section 4: constants increasing linearly from 1e-4 to 0.02."""
    beta = 1 - coefficients(alpha_bar(1000))["alpha_t"]
    expected = torch.arange(1000, dtype=torch.float64) / 999 * (0.02 - 1e-4) + 1e-4
    torch.testing.assert_close(beta, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("timesteps", [1, 4, 50, 500])
def test_fewer_timesteps_are_a_subset_of_the_same_curve(timesteps: int) -> None:
    stride = 1000 // timesteps
    torch.testing.assert_close(alpha_bar(timesteps), alpha_bar(1000)[stride - 1 :: stride], rtol=1e-12, atol=0)


@pytest.mark.parametrize("timesteps", [3, 333, 999])
def test_other_numbers_of_timesteps_are_interpolated(timesteps: int) -> None:
    full, ours = alpha_bar(1000), alpha_bar(timesteps)
    for t, value in enumerate(ours[:-1].tolist(), start=1):
        before = t * 1000 // timesteps
        assert full[before].item() < value < full[before - 1].item()
    assert ours[-1].item() == pytest.approx(full[-1].item(), rel=1e-9)


def test_twice_the_timesteps_split_each_step_into_two_equal_ones() -> None:
    twice = alpha_bar(2000)
    torch.testing.assert_close(twice[1::2], alpha_bar(1000), rtol=1e-12, atol=0)
    alpha = coefficients(twice)["alpha_t"]
    torch.testing.assert_close(alpha[0::2], alpha[1::2], rtol=1e-12, atol=0)


def test_betas_of_the_config_are_used() -> None:
    config = LinearConfig(first_beta=0.1, last_beta=0.3, reference_timesteps=3)
    assert alpha_bar(3, config).tolist() == pytest.approx([0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"first_beta": 0.03}, "must not be smaller"),
        ({"first_beta": 0.0}, "first_beta"),
        ({"last_beta": 1.0}, "last_beta"),
        ({"reference_timesteps": 0}, "reference_timesteps"),
    ],
)
def test_an_invalid_config_is_rejected(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LinearConfig(**wrong)  # type: ignore[arg-type]
