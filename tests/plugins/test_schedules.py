"""Scaled linear, sigmoid, Laplace and EDM, compared with diffusers, closed forms and torch's distributions."""

import math

import pytest
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler
from pydantic import ValidationError
from torch import Tensor

from ddpmkit_plugins.edm import EdmConfig
from ddpmkit_plugins.edm.schedule import EdmSchedule
from ddpmkit_plugins.laplace import LaplaceConfig
from ddpmkit_plugins.laplace.schedule import LaplaceSchedule
from ddpmkit_plugins.linear import ScaledLinearConfig
from ddpmkit_plugins.linear.schedule import ScaledLinearSchedule
from ddpmkit_plugins.sigmoid import SigmoidConfig
from ddpmkit_plugins.sigmoid.schedule import SigmoidSchedule


def log_snr(alpha_bar: Tensor) -> Tensor:
    return alpha_bar.log() - (1 - alpha_bar).log()


def test_scaled_linear_equals_diffusers() -> None:
    theirs = DDPMScheduler(1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    ours = ScaledLinearSchedule(ScaledLinearConfig(), timesteps=1000).alphas_cumprod()
    torch.testing.assert_close(ours.float(), theirs.alphas_cumprod, rtol=0, atol=1e-6)


def test_scaled_linear_with_50_timesteps_is_every_20th_of_1000() -> None:
    full, ours = (ScaledLinearSchedule(ScaledLinearConfig(), timesteps=t).alphas_cumprod() for t in (1000, 50))
    torch.testing.assert_close(ours, full[19::20], rtol=1e-12, atol=0)


@pytest.mark.parametrize("config", [SigmoidConfig(), SigmoidConfig(start=0.0, tau=0.7)])
def test_sigmoid_equals_the_algorithm_of_the_paper(config: SigmoidConfig) -> None:
    """Jabri et al. (2022), algorithm 3: (sigma(end) - sigma(at t)) / (sigma(end) - sigma(start))."""

    def sigma(value: float) -> float:
        return 1 / (1 + math.exp(-value / config.tau))

    ours = SigmoidSchedule(config, timesteps=50).alphas_cumprod().tolist()
    for step, value in enumerate(ours[:-1], start=1):
        at = config.start + step / 50 * (config.end - config.start)
        expected = (sigma(config.end) - sigma(at)) / (sigma(config.end) - sigma(config.start))
        assert value == pytest.approx(expected, rel=1e-9)
    assert ours[-1] == pytest.approx(ours[-2] * (1 - config.max_beta), rel=1e-9)


def test_laplace_has_log_snrs_at_the_quantiles_of_the_distribution() -> None:
    quantiles = torch.arange(50, 0, -1, dtype=torch.float64) / 51
    theirs = torch.distributions.Laplace(torch.tensor(0.3).double(), torch.tensor(0.8).double()).icdf(quantiles)
    ours = LaplaceSchedule(LaplaceConfig(mean=0.3, scale=0.8), timesteps=50).alphas_cumprod()
    torch.testing.assert_close(log_snr(ours), theirs, rtol=0, atol=1e-6)  # torch's icdf rounds intermediate values


def test_the_last_log_snr_of_laplace_is_as_documented() -> None:
    ours = LaplaceSchedule(LaplaceConfig(mean=-1.0, scale=0.5), timesteps=99).alphas_cumprod()
    assert log_snr(ours)[-1].item() == pytest.approx(-1 - 0.5 * math.log(50), rel=1e-9)


@pytest.mark.parametrize("rho", [7.0, 3.0])
def test_edm_has_the_noise_levels_of_karras_et_al(rho: float) -> None:
    """diffusers computes its noise levels in float32, hence the tolerance."""
    theirs = EulerDiscreteScheduler()._convert_to_karras(torch.tensor([80.0, 0.002]), 18)
    ours = EdmSchedule(EdmConfig(rho=rho), timesteps=18).alphas_cumprod()
    sigma = ((1 - ours) / ours).sqrt().flip(0)
    expected = [(80 ** (1 / rho) + i / 17 * (0.002 ** (1 / rho) - 80 ** (1 / rho))) ** rho for i in range(18)]
    assert sigma.tolist() == pytest.approx(expected, rel=1e-6)
    if rho == 7:
        torch.testing.assert_close(sigma, torch.as_tensor(theirs).double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (EdmConfig, {"sigma_min": 2.0, "sigma_max": 1.0}),
        (EdmConfig, {"rho": 0.0}),
        (LaplaceConfig, {"scale": 0.0}),
        (SigmoidConfig, {"start": 1.0, "end": 1.0}),
        (SigmoidConfig, {"tau": 0.0}),
        (ScaledLinearConfig, {"first_beta": 0.1, "last_beta": 0.01}),
    ],
)
def test_an_invalid_config_is_rejected(config, keys) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValidationError):
        config(**keys)
