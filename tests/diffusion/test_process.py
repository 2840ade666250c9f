import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit.diffusion import GaussianDiffusion, coefficients
from ddpmkit.errors import InputError
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule

Make = Callable[..., Tensor]
MakeProcess = Callable[..., GaussianDiffusion]


def test_buffers_are_float32_of_the_float64_values_and_not_in_the_state_dict(process: MakeProcess) -> None:
    diffusion = process(1000)
    exact = coefficients(CosineSchedule(CosineConfig(), timesteps=1000).alphas_cumprod())
    buffers = dict(diffusion.named_buffers())
    assert {buffer.dtype for buffer in buffers.values()} == {torch.float32}
    # From a float32 alpha_bar, the variance at t = 1 and the signal-to-noise ratio would be off by 1e-3.
    torch.testing.assert_close(buffers, {name: values.float() for name, values in exact.items()}, rtol=0, atol=0)
    assert diffusion.state_dict() == {}


def test_q_sample_has_the_mean_and_variance_of_eq_4(process: MakeProcess) -> None:
    diffusion = process()
    x0 = torch.full((20_000, 1, 1, 1), 0.6)
    eps = torch.randn(20_000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    for t in (0, 20, 49):
        x = diffusion.q_sample(x0, torch.full((20_000,), t), eps)
        bar = diffusion.alpha_bar_at(t)
        assert x.mean().item() == pytest.approx(0.6 * math.sqrt(bar), abs=4 * math.sqrt((1 - bar) / 20_000))
        assert x.var().item() == pytest.approx(1 - bar, rel=0.05)


def test_noising_in_two_stages_equals_noising_once(process: MakeProcess) -> None:
    """The mean is scaled equally, and the variances add up: x_t has the same distribution."""
    diffusion, one, zero = process(), torch.ones(1), torch.zeros(1)
    for s, t in ((-1, 0), (-1, 30), (10, 30), (30, 49)):
        bar_s, bar_t = diffusion.alpha_bar_at(s), diffusion.alpha_bar_at(t)
        scale = diffusion.add_noise(one, s, t, zero).item()
        added = diffusion.add_noise(zero, s, t, one).item()
        assert scale * math.sqrt(bar_s) == pytest.approx(math.sqrt(bar_t))
        assert scale**2 * (1 - bar_s) + added**2 == pytest.approx(1 - bar_t)


def test_composed_equals_q_sample(process: MakeProcess, images: Make, noise: Make) -> None:
    diffusion, x0, eps = process(), images(), noise()
    for t in (0, 20, 49):
        expected = diffusion.q_sample(x0, torch.full((len(x0),), t), eps)
        torch.testing.assert_close(diffusion.composed(x0, eps, t), expected)
    assert torch.equal(diffusion.composed(x0, eps, -1), x0)


@pytest.mark.parametrize(("t", "s"), [(49, 48), (30, 29), (30, 10), (5, 0)])
def test_the_posterior_follows_from_bayes_rule(process: MakeProcess, t: int, s: int) -> None:
    """q(x_s | x_t, x0) is proportional to q(x_t | x_s) q(x_s | x0): the product of two Gaussians in x_s."""
    diffusion = process()
    bar_t, bar_s, x0, x_t = diffusion.alpha_bar_at(t), diffusion.alpha_bar_at(s), 0.3, -0.7
    alpha = bar_t / bar_s
    precision = alpha / (1 - alpha) + 1 / (1 - bar_s)
    mean = (math.sqrt(alpha) * x_t / (1 - alpha) + math.sqrt(bar_s) * x0 / (1 - bar_s)) / precision
    found = diffusion.posterior(torch.tensor(x0, dtype=torch.float64), torch.tensor(x_t, dtype=torch.float64), t, s)
    assert found.mean.item() == pytest.approx(mean, rel=1e-12)
    assert found.variance == pytest.approx(1 / precision, rel=1e-12)


def test_an_ancestral_step_adds_noise_of_the_posterior_variance(
    process: MakeProcess, images: Make, noise: Make
) -> None:
    diffusion = process()
    x0, x, eps = images(), noise(), noise(seed=9)
    for t, s in ((30, 29), (30, 10)):
        mean, variance = diffusion.posterior(x0, x, t, s)
        torch.testing.assert_close(diffusion.p_sample(x0, x, t, eps, s), mean + math.sqrt(variance) * eps)
    assert torch.equal(diffusion.p_sample(x0, x, 30, eps), diffusion.p_sample(x0, x, 30, eps, 29))
    assert diffusion.posterior(x0, x, 30, 29).variance == pytest.approx(diffusion.posterior_variance[30].item())


def test_without_signal_an_ancestral_step_noises_x0_anew(images: Make, noise: Make) -> None:
    diffusion = GaussianDiffusion(torch.tensor([0.9, 0.4, 0.0], dtype=torch.float64), "v")
    mean, variance = diffusion.posterior(x0 := images(), noise(), 2, 1)
    torch.testing.assert_close(mean, math.sqrt(0.4) * x0)
    assert variance == pytest.approx(0.6)
    assert diffusion.log_snr.tolist() == pytest.approx([math.log(9), math.log(2 / 3), -math.inf])


def test_the_last_step_returns_the_estimate_without_noise(process: MakeProcess, images: Make, noise: Make) -> None:
    diffusion = process()
    x0, x = images(), noise()
    assert diffusion.posterior(x0, x, 0, -1).variance == 0
    torch.testing.assert_close(diffusion.p_sample(x0, x, 0, noise(seed=9)), x0)


@given(timesteps=st.integers(1, 300), data=st.data())
def test_sampling_timesteps_are_evenly_spaced_from_last_to_first(timesteps: int, data: st.DataObject) -> None:
    diffusion = GaussianDiffusion(torch.linspace(0.9, 0.1, timesteps, dtype=torch.float64))
    steps = data.draw(st.integers(1, timesteps))
    chosen = diffusion.sampling_timesteps(steps)
    assert len(chosen) == steps
    assert chosen[0] == timesteps - 1
    assert chosen == sorted(set(chosen), reverse=True)
    assert steps == 1 or chosen[-1] == 0
    stride = (timesteps - 1) / max(1, steps - 1)
    assert all(abs(t - (timesteps - 1 - n * stride)) < 0.5 + 1e-9 for n, t in enumerate(chosen))


@pytest.mark.parametrize("steps", [0, 51])
def test_sampling_steps_outside_1_to_t_are_rejected(process: MakeProcess, steps: int) -> None:
    with pytest.raises(InputError, match=f"sampling steps must be between 1 and 50, not {steps}"):
        process().sampling_timesteps(steps)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_a_truncated_process_has_the_same_coefficients(process: MakeProcess, prediction: Prediction) -> None:
    full = process(50, prediction)
    first = full.truncated(20)
    assert (first.timesteps, first.prediction) == (20, prediction)
    ours, theirs = dict(first.named_buffers()), dict(full.named_buffers())
    assert all(torch.equal(ours[name], theirs[name][:20]) for name in theirs)
    assert first.alpha_bar_at(19) == full.alpha_bar_at(19)
    for timesteps in (0, 51):
        with pytest.raises(InputError, match=f"of 50 timesteps cannot be truncated to {timesteps}"):
            full.truncated(timesteps)


def test_names_of_plugin_api_1_still_work(process: MakeProcess, noise: Make) -> None:
    from ddpmkit.diffusion import Guidance, Known, KnownPixels

    diffusion = process()
    assert Known is KnownPixels
    assert Guidance(2.0, 3).untold == 3
    x, eps = noise(), noise(seed=2)
    assert torch.equal(diffusion.noised_further(x, 3, 9, eps), diffusion.add_noise(x, 3, 9, eps))
