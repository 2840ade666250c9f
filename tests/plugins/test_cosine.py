import math

import pytest
import torch
from diffusers import DDPMScheduler
from pydantic import ValidationError
from torch import Tensor

from ddpmkit.diffusion import GaussianDiffusion, coefficients
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule


def alpha_bar(timesteps: int, config: CosineConfig | None = None) -> Tensor:
    return CosineSchedule(config or CosineConfig(), timesteps=timesteps).alphas_cumprod()


@pytest.mark.parametrize("timesteps", [50, 1000])
def test_it_equals_diffusers_within_1e_6(timesteps: int) -> None:
    theirs = DDPMScheduler(num_train_timesteps=timesteps, beta_schedule="squaredcos_cap_v2")
    variance = torch.stack([theirs._get_variance(t) for t in range(timesteps)])
    ours = GaussianDiffusion(alpha_bar(timesteps))
    torch.testing.assert_close(1 - ours.alpha_t, theirs.betas, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.alpha_bar, theirs.alphas_cumprod, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.posterior_variance, variance, rtol=0, atol=1e-6)


def test_it_equals_eq_17_before_the_betas_are_clipped() -> None:
    def f(t: int) -> float:
        return math.cos((t / 50 + 0.008) / 1.008 * math.pi / 2) ** 2

    assert alpha_bar(50)[:-1].tolist() == pytest.approx([f(t) / f(0) for t in range(1, 50)], rel=1e-12)


def test_with_50_timesteps_the_last_one_amplifies_errors_a_thousand_times() -> None:
    last = alpha_bar(50)[-1].item()
    assert last == pytest.approx(9.7e-7, rel=2e-3)
    assert 1 / math.sqrt(last) == pytest.approx(1015, rel=1e-3)


@pytest.mark.parametrize("timesteps", [1, 2, 50, 4000])
def test_no_beta_exceeds_max_beta(timesteps: int) -> None:
    """The cosine ends at 0, so the last beta would be 1 and is always clipped."""
    for max_beta in (0.999, 0.9):
        beta = 1 - coefficients(alpha_bar(timesteps, CosineConfig(max_beta=max_beta)))["alpha_t"]
        assert beta.max().item() == beta[-1].item() == pytest.approx(max_beta, rel=1e-12)


def test_the_offset_adds_noise_to_the_first_timesteps() -> None:
    with_offset, without = alpha_bar(1000)[0].item(), alpha_bar(1000, CosineConfig(s=0.0))[0].item()
    assert 1 - without == pytest.approx((math.pi / 2 / 1000) ** 2, rel=1e-5)
    assert 1 - with_offset > 10 * (1 - without)


@pytest.mark.parametrize("wrong", [{"s": -0.1}, {"max_beta": 0.0}, {"max_beta": 1.0}])
def test_an_invalid_config_is_rejected(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        CosineConfig(**wrong)
