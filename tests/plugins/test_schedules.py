import math

import pytest
import torch
from diffusers import DDPMScheduler

from ddpmkit.diffusion import coefficients
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule
from ddpmkit_plugins.linear import LinearConfig
from ddpmkit_plugins.linear.schedule import LinearSchedule


@pytest.mark.parametrize("timesteps", [50, 1000])
def test_cosine_agrees_with_diffusers(timesteps: int) -> None:
    theirs = DDPMScheduler(num_train_timesteps=timesteps, beta_schedule="squaredcos_cap_v2")
    ours = CosineSchedule(CosineConfig(), timesteps=timesteps).alphas_cumprod()
    found = coefficients(ours)
    torch.testing.assert_close(1 - found["alpha_t"], theirs.betas.double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours, theirs.alphas_cumprod.double(), rtol=1e-5, atol=1e-6)
    variance = torch.stack([theirs._get_variance(t) for t in range(1, timesteps)]).double()
    torch.testing.assert_close(found["posterior_variance"][1:], variance, rtol=2e-3, atol=1e-6)


def test_cosine_is_eq_17_where_the_betas_are_not_clipped() -> None:
    def f(t: int) -> float:
        return math.cos((t / 50 + 0.008) / 1.008 * math.pi / 2) ** 2

    ours = CosineSchedule(CosineConfig(), timesteps=50).alphas_cumprod()
    assert ours[:49].tolist() == pytest.approx([f(t) / f(0) for t in range(1, 50)], rel=1e-12)


def test_the_first_reverse_step_of_fifty_amplifies_a_thousandfold() -> None:
    last = CosineSchedule(CosineConfig(), timesteps=50).alphas_cumprod()[-1].item()
    assert last == pytest.approx(9.7e-7, rel=0.01)
    assert 1 / math.sqrt(last) == pytest.approx(1015, rel=0.005)


def test_linear_agrees_with_diffusers_at_a_thousand() -> None:
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    ours = LinearSchedule(LinearConfig(), timesteps=1000).alphas_cumprod()
    torch.testing.assert_close(1 - coefficients(ours)["alpha_t"], theirs.betas.double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours, theirs.alphas_cumprod.double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("timesteps", [4, 50, 333])
def test_linear_walks_the_same_path_in_fewer_steps(timesteps: int) -> None:
    whole = LinearSchedule(LinearConfig(), timesteps=1000).alphas_cumprod()
    ours = LinearSchedule(LinearConfig(), timesteps=timesteps).alphas_cumprod()
    assert ours[-1].item() == pytest.approx(whole[-1].item(), rel=1e-9)
    if 1000 % timesteps == 0:
        stride = 1000 // timesteps
        torch.testing.assert_close(ours, whole[stride - 1 :: stride], rtol=1e-9, atol=0)
