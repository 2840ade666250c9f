import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr

from ddpmkit.diffusion import GaussianDiffusion, coefficients, with_zero_terminal_snr
from ddpmkit.errors import InputError
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule
from ddpmkit_plugins.edm import EdmConfig
from ddpmkit_plugins.edm.schedule import EdmSchedule


def test_coefficients_equal_their_definitions() -> None:
    beta = torch.tensor([0.1, 0.2, 0.5], dtype=torch.float64)
    alpha_bar = [0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.5]
    found = coefficients(torch.tensor(alpha_bar, dtype=torch.float64))
    torch.testing.assert_close(found["alpha_t"], 1 - beta)
    assert found["sqrt_alpha_bar"].tolist() == pytest.approx([math.sqrt(a) for a in alpha_bar])
    assert found["sqrt_one_minus_alpha_bar"].tolist() == pytest.approx([math.sqrt(1 - a) for a in alpha_bar])
    # Ho et al. (2020), eq. 7: beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t), with alpha_bar_{-1} = 1.
    expected = [0.0, 0.2 * 0.1 / (1 - 0.72), 0.5 * 0.28 / (1 - 0.36)]
    assert found["posterior_variance"].tolist() == pytest.approx(expected)
    assert found["log_snr"].tolist() == pytest.approx([math.log(a / (1 - a)) for a in alpha_bar])


@pytest.mark.parametrize("timesteps", [1000, 10_000])
def test_no_buffer_is_a_difference_of_rounded_numbers(timesteps: int) -> None:
    """EDM's first betas are 1e-8. 1 - alpha_t in float32 would be 0, or off by 12 %."""
    exact = EdmSchedule(EdmConfig(), timesteps=timesteps).alphas_cumprod()
    found, t = GaussianDiffusion(exact), torch.arange(timesteps)
    beta = 1 - exact / torch.cat([torch.ones(1, dtype=torch.float64), exact[:-1]])
    torch.testing.assert_close(found.beta.double(), beta, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.log_beta.double(), beta.log(), rtol=1e-6, atol=0)
    assert torch.equal(found.alpha_bar_in_double(t), exact)


@pytest.mark.parametrize("timesteps", [2, 50, 1000])
def test_zero_terminal_snr_equals_diffusers(timesteps: int) -> None:
    bar = CosineSchedule(CosineConfig(), timesteps=timesteps).alphas_cumprod() * 0.9 + 0.05
    theirs = 1 - rescale_zero_terminal_snr(1 - coefficients(bar)["alpha_t"])
    ours = with_zero_terminal_snr(bar)
    torch.testing.assert_close(ours, theirs.cumprod(0), rtol=1e-9, atol=1e-12)
    assert ours[0].item() == pytest.approx(bar[0].item())
    assert ours[-1].item() == 0
    GaussianDiffusion(ours, "v")


def test_zero_terminal_snr_needs_two_timesteps() -> None:
    with pytest.raises(InputError, match="needs 2 timesteps or more"):
        with_zero_terminal_snr(torch.tensor([0.5], dtype=torch.float64))
