import math
import re

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit.diffusion import (
    Denoiser,
    GaussianDiffusion,
    Guidance,
    Known,
    check_alphas_cumprod,
    coefficients,
    with_zero_terminal_snr,
)
from ddpmkit.errors import InputError
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule
from ddpmkit_plugins.edm import EdmConfig
from ddpmkit_plugins.edm.schedule import EdmSchedule

PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "x0", "v")


def process(timesteps: int = 50, prediction: Prediction = "epsilon") -> GaussianDiffusion:
    return GaussianDiffusion.from_schedule(CosineSchedule(CosineConfig(), timesteps=timesteps), prediction)


def pictures(count: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def noise(count: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_coefficients_are_what_their_names_say() -> None:
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


def test_buffers_are_float32_of_the_float64_values_and_in_no_checkpoint() -> None:
    diffusion = process(1000)
    exact = coefficients(CosineSchedule(CosineConfig(), timesteps=1000).alphas_cumprod())
    buffers = dict(diffusion.named_buffers())
    assert {buffer.dtype for buffer in buffers.values()} == {torch.float32}
    # From a float32 alpha_bar, the variance at t = 1 and the signal-to-noise ratio would be off by 1e-3.
    torch.testing.assert_close(buffers, {name: values.float() for name, values in exact.items()}, rtol=0, atol=0)
    assert diffusion.state_dict() == {}


def test_q_sample_has_the_mean_and_variance_of_eq_4() -> None:
    diffusion = process()
    x0 = torch.full((20_000, 1, 1, 1), 0.6)
    eps = torch.randn(20_000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    for t in (0, 20, 49):
        x = diffusion.q_sample(x0, torch.full((20_000,), t), eps)
        bar = diffusion.alpha_bar_at(t)
        assert x.mean().item() == pytest.approx(0.6 * math.sqrt(bar), abs=4 * math.sqrt((1 - bar) / 20_000))
        assert x.var().item() == pytest.approx(1 - bar, rel=0.05)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_right_answer_gives_x0_and_eps_back(prediction: Prediction) -> None:
    diffusion = process(prediction=prediction)
    x0, eps, t = pictures(), noise(), torch.tensor([0, 10, 30, 45])
    x = diffusion.q_sample(x0, t, eps)
    found = diffusion.denoised(diffusion.target(x0, t, eps), x, t)
    torch.testing.assert_close(found.x0, x0, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.eps, eps, rtol=1e-3, atol=1e-3)


def test_one_x_t_has_one_x0_and_eps_whatever_is_predicted() -> None:
    """At every t of 50, in double precision: the buffers are float32 numbers still, a² + b² = 1 to 1e-7."""
    t = torch.arange(50)
    x0, eps = pictures(50).double(), noise(50).double()
    for prediction in PREDICTIONS:
        diffusion = process(prediction=prediction).double()
        x = diffusion.q_sample(x0, t, eps)
        found = diffusion.denoised(diffusion.target(x0, t, eps), x, t)
        torch.testing.assert_close((found.x0, found.eps), (x0, eps), rtol=1e-6, atol=1e-6)


def test_x0_hat_is_the_networks_error_times_a_thousand_at_the_first_step_back() -> None:
    diffusion = process()
    x, t = noise(1), torch.tensor([49])
    shift = diffusion.denoised(x + 1e-3, x, t).x0 - diffusion.denoised(x, x, t).x0
    assert shift.mean().item() == pytest.approx(-1.015, rel=1e-3)


def test_v_is_that_of_salimans_and_ho() -> None:
    diffusion = process(prediction="v")
    x0, eps, t = pictures(1), noise(1), torch.tensor([20])
    alpha, sigma = math.sqrt(diffusion.alpha_bar_at(20)), math.sqrt(1 - diffusion.alpha_bar_at(20))
    torch.testing.assert_close(diffusion.target(x0, t, eps), alpha * eps - sigma * x0)


@pytest.mark.parametrize(("t", "s"), [(49, 48), (30, 29), (30, 10), (5, 0)])
def test_the_posterior_is_bayes_rule(t: int, s: int) -> None:
    """q(x_s | x_t, x0) is proportional to q(x_t | x_s) q(x_s | x0): the product of two Gaussians in x_s."""
    diffusion = process()
    bar_t, bar_s, x0, x_t = diffusion.alpha_bar_at(t), diffusion.alpha_bar_at(s), 0.3, -0.7
    alpha = bar_t / bar_s
    precision = alpha / (1 - alpha) + 1 / (1 - bar_s)
    mean = (math.sqrt(alpha) * x_t / (1 - alpha) + math.sqrt(bar_s) * x0 / (1 - bar_s)) / precision
    found = diffusion.posterior(torch.tensor(x0, dtype=torch.float64), torch.tensor(x_t, dtype=torch.float64), t, s)
    assert found.mean.item() == pytest.approx(mean, rel=1e-12)
    assert found.variance == pytest.approx(1 / precision, rel=1e-12)


def test_a_step_back_adds_noise_of_the_posteriors_variance() -> None:
    diffusion = process()
    x0, x, eps = pictures(), noise(), noise(seed=9)
    for t, s in ((30, 29), (30, 10)):
        mean, variance = diffusion.posterior(x0, x, t, s)
        torch.testing.assert_close(diffusion.p_sample(x0, x, t, eps, s), mean + math.sqrt(variance) * eps)
    assert torch.equal(diffusion.p_sample(x0, x, 30, eps), diffusion.p_sample(x0, x, 30, eps, 29))
    assert diffusion.posterior(x0, x, 30, 29).variance == pytest.approx(diffusion.posterior_variance[30].item())


def test_where_no_signal_is_left_a_step_back_is_a_fresh_noising_of_x0() -> None:
    diffusion = GaussianDiffusion(torch.tensor([0.9, 0.4, 0.0], dtype=torch.float64), "v")
    mean, variance = diffusion.posterior(x0 := pictures(), noise(), 2, 1)
    torch.testing.assert_close(mean, math.sqrt(0.4) * x0)
    assert variance == pytest.approx(0.6)
    assert diffusion.log_snr.tolist() == pytest.approx([math.log(9), math.log(2 / 3), -math.inf])


def test_the_last_step_is_the_estimate_itself_without_noise() -> None:
    diffusion = process()
    x0, x = pictures(), noise()
    assert diffusion.posterior(x0, x, 0, -1).variance == 0
    torch.testing.assert_close(diffusion.p_sample(x0, x, 0, noise(seed=9)), x0)


@given(timesteps=st.integers(1, 300), data=st.data())
def test_sampling_timesteps_fall_from_the_last_to_the_first(timesteps: int, data: st.DataObject) -> None:
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
def test_more_or_fewer_steps_than_there_are_is_bad_input(steps: int) -> None:
    with pytest.raises(InputError, match=rf"sampler\.steps = {steps}"):
        process().sampling_timesteps(steps)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.7, 0.5, 0.6], "fall strictly, and goes from 0.5 at t = 1 to 0.6 at t = 2"),
        ([0.5, 0.5], "fall strictly, and goes from 0.5 at t = 0 to 0.5 at t = 1"),
        ([1.2, 0.5], "below 1 .*, and is 1.2 at t = 0"),
        ([1.0, 0.5], "below 1 .*, and is 1 at t = 0"),
        ([0.5, -0.1], "above 0 .*, and is -0.1 at t = 1"),
        ([0.5, 0.0, 0.0], "above 0 .*, and is 0 at t = 1"),
        ([0.5, math.nan, 0.4], "and is nan at t = 1"),
        ([], r"must be float64 \[T\], and is float64 \[0\]"),
    ],
)
def test_what_is_no_schedule_is_refused(values: list[float], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        GaussianDiffusion(torch.tensor(values, dtype=torch.float64))


@pytest.mark.parametrize("values", [torch.tensor([0.5, 0.4]), torch.tensor([[0.5, 0.4]], dtype=torch.float64)])
def test_single_precision_and_matrices_are_refused(values: Tensor) -> None:
    found = f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}"
    with pytest.raises(InputError, match=re.escape(f"alpha_bar must be float64 [T], and is {found}.")):
        GaussianDiffusion(values)


def test_another_number_of_timesteps_than_is_wanted_is_no_schedule() -> None:
    alpha_bar = torch.tensor([0.5, 0.4], dtype=torch.float64)
    check_alphas_cumprod(alpha_bar, 2)
    with pytest.raises(InputError, match=r"must be float64 \[3\], and is float64 \[2\]"):
        check_alphas_cumprod(alpha_bar, 3)


@pytest.mark.parametrize("timesteps", [1000, 10_000])
def test_no_buffer_is_a_difference_of_rounded_numbers(timesteps: int) -> None:
    """Betas of EDM's first steps are 1e-8: of 1 - alpha_t in float32 none, or 12 % more, is left."""
    exact = EdmSchedule(EdmConfig(), timesteps=timesteps).alphas_cumprod()
    found, t = GaussianDiffusion(exact), torch.arange(timesteps)
    beta = 1 - exact / torch.cat([torch.ones(1, dtype=torch.float64), exact[:-1]])
    torch.testing.assert_close(found.beta.double(), beta, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.log_beta.double(), beta.log(), rtol=1e-6, atol=0)
    assert torch.equal(found.alpha_bar_in_double(t), exact)


def test_zero_terminal_snr_needs_another_prediction_than_eps() -> None:
    alpha_bar = torch.tensor([0.9, 0.0], dtype=torch.float64)
    with pytest.raises(InputError, match="cannot be recovered from eps"):
        GaussianDiffusion(alpha_bar, "epsilon")
    for prediction in ("x0", "v"):
        GaussianDiffusion(alpha_bar, prediction)


def test_a_denoiser_asks_for_one_t_and_the_whole_batch() -> None:
    asked = []

    def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        asked.append((t.tolist(), label))
        return torch.zeros_like(x, dtype=torch.bfloat16)

    label = torch.tensor([1, 2])
    found = Denoiser(network, process(), label)(noise(2), 7)
    assert asked == [([7, 7], label)]
    assert found.x0.dtype == found.eps.dtype == torch.float32


@pytest.mark.parametrize("timesteps", [2, 50, 1000])
def test_zero_terminal_snr_is_that_of_diffusers(timesteps: int) -> None:
    bar = CosineSchedule(CosineConfig(), timesteps=timesteps).alphas_cumprod() * 0.9 + 0.05
    theirs = 1 - rescale_zero_terminal_snr(1 - coefficients(bar)["alpha_t"])
    ours = with_zero_terminal_snr(bar)
    torch.testing.assert_close(ours, theirs.cumprod(0), rtol=1e-9, atol=1e-12)
    assert ours[0].item() == pytest.approx(bar[0].item())
    assert ours[-1].item() == 0
    GaussianDiffusion(ours, "v")


def test_one_timestep_cannot_both_begin_and_end() -> None:
    with pytest.raises(InputError, match="timesteps of 2 or more"):
        with_zero_terminal_snr(torch.tensor([0.5], dtype=torch.float64))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_guidance_moves_eps_beyond_the_answer_for_the_class(prediction: Prediction, scale: float) -> None:
    """Ho & Salimans (2022), eq. 6: (1 + w) eps(z, c) - w eps(z), with scale = 1 + w; whatever is predicted."""

    def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        return torch.sin(x + label[:, None, None, None] + 0.1 * t[:, None, None, None])

    noising = process(prediction=prediction)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    label, none = torch.tensor([0, 2]), torch.tensor([3, 3])
    told, untold = (Denoiser(network, noising, each)(x, 20).eps for each in (label, none))
    guided = Denoiser(network, noising, label, Guidance(scale, untold=3))(x, 20)
    expected = scale * told - (scale - 1) * untold
    torch.testing.assert_close(guided.eps, expected, rtol=1e-4, atol=1e-4)
    signal = math.sqrt(noising.alpha_bar_at(20))
    sigma = math.sqrt(1 - noising.alpha_bar_at(20))
    torch.testing.assert_close(signal * guided.x0 + sigma * guided.eps, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("scale", "expected"), [(0.0, -0.8), (0.5, -0.05), (1.0, 0.7), (4.0, 0.7)])
def test_guidance_takes_no_learned_variance_out_of_the_range_that_was_learned(scale: float, expected: float) -> None:
    """Peebles & Xie (2023): the guided eps goes with the variance for the class. Extrapolated by 4 it would be 5.2."""

    def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        spread = torch.where(label == 3, -0.8, 0.7)[:, None, None, None].expand_as(x)
        return torch.cat([torch.sin(x + label[:, None, None, None]), spread], dim=1)

    x, label = noise(2), torch.tensor([0, 2])
    guided = Denoiser(network, process(), label, Guidance(scale, untold=3))(x, 20)
    assert guided.spread is not None
    torch.testing.assert_close(guided.spread, torch.full_like(x, expected))
    eps = torch.lerp(torch.sin(x + 3), torch.sin(x + label[:, None, None, None]), scale)
    torch.testing.assert_close(guided.eps, eps)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("keep_eps", [True, False])
def test_a_clamped_x0_takes_eps_with_it_unless_eps_is_kept(prediction: Prediction, keep_eps: bool) -> None:
    denoiser = Denoiser(lambda x, t, label: 3 * torch.sin(x), process(prediction=prediction))
    x = noise()
    plain, found = denoiser(x, 20), denoiser(x, 20, clip_x0=True, keep_eps=keep_eps)
    outside = plain.x0.abs() > 1
    assert 0 < outside.sum() < outside.numel()
    assert torch.equal(found.x0, plain.x0.clamp(-1, 1))
    assert torch.equal(found.eps[~outside], plain.eps[~outside])
    made_up = denoiser.process.composed(found.x0, found.eps, 20)
    if keep_eps:
        assert torch.equal(found.eps, plain.eps)
        assert not torch.isclose(made_up[outside], x[outside], rtol=0, atol=1e-4).any()
    else:
        torch.testing.assert_close(made_up, x)


def test_x_is_composed_as_it_is_noised() -> None:
    diffusion, x0, eps = process(), pictures(), noise()
    for t in (0, 20, 49):
        expected = diffusion.q_sample(x0, torch.full((len(x0),), t), eps)
        torch.testing.assert_close(diffusion.composed(x0, eps, t), expected)
    assert torch.equal(diffusion.composed(x0, eps, -1), x0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_first_timesteps_are_a_process_of_the_same_coefficients(prediction: Prediction) -> None:
    whole = process(50, prediction)
    first = whole.truncated(20)
    assert (first.timesteps, first.prediction) == (20, prediction)
    ours, theirs = dict(first.named_buffers()), dict(whole.named_buffers())
    assert all(torch.equal(ours[name], theirs[name][:20]) for name in theirs)
    assert first.alpha_bar_at(19) == whole.alpha_bar_at(19)
    for timesteps in (0, 51):
        with pytest.raises(InputError, match=f"of 50 timesteps has no first {timesteps}"):
            whole.truncated(timesteps)


def test_noising_on_ends_where_noising_at_once_does() -> None:
    """The mean is scaled alike, and variances add up: x_t is one Gaussian however it came about."""
    diffusion, one, none = process(), torch.ones(1), torch.zeros(1)
    for s, t in ((-1, 0), (-1, 30), (10, 30), (30, 49)):
        bar_s, bar_t = diffusion.alpha_bar_at(s), diffusion.alpha_bar_at(t)
        scale = diffusion.noised_further(one, s, t, none).item()
        added = diffusion.noised_further(none, s, t, one).item()
        assert scale * math.sqrt(bar_s) == pytest.approx(math.sqrt(bar_t))
        assert scale**2 * (1 - bar_s) + added**2 == pytest.approx(1 - bar_t)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_where_the_image_is_known_a_denoiser_says_so_and_what_noise_that_leaves(prediction: Prediction) -> None:
    diffusion = process(prediction=prediction)
    picture, x = pictures(1)[0], noise()
    where = torch.zeros(8, 8, dtype=torch.bool)
    where[2:5] = True

    def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return torch.cat([x.sin(), x.cos()], dim=1)

    plain = Denoiser(network, diffusion)(x, 20)
    found = Denoiser(network, diffusion, known=Known(picture, where))(x, 20)
    assert torch.equal(found.x0[:, :, where], picture[:, where].expand(4, -1, -1))
    for name in ("x0", "eps", "spread"):
        assert torch.equal(getattr(found, name)[:, :, ~where], getattr(plain, name)[:, :, ~where])
    bar = diffusion.alpha_bar_at(20)
    torch.testing.assert_close(math.sqrt(bar) * found.x0 + math.sqrt(1 - bar) * found.eps, x)
    assert found.spread is not None
    assert (found.spread[:, :, where] == -1).all()


def test_a_truncated_denoiser_asks_the_same_with_the_shorter_process() -> None:
    asked = []

    def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        asked.append((t.tolist(), None if label is None else label.tolist()))
        return x

    known = Known(pictures(1)[0], torch.ones(8, 8, dtype=torch.bool))
    whole = Denoiser(network, process(), torch.tensor([1, 0]), Guidance(2.0, untold=3), known)
    first, x = whole.truncated(20), noise(2)
    assert first.process.timesteps == 20
    assert torch.equal(first(x, 19).eps, whole(x, 19).eps)
    assert asked[0] == asked[1] == ([19] * 4, [1, 0, 3, 3])
