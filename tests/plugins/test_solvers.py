"""DPM-Solver++, UniPC and Heun in float64: equality with diffusers on equal noise, order of convergence, churn."""

import math
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, HeunDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from ddpmkit.contracts import Prediction, Sampler
from ddpmkit.diffusion import Denoiser, GaussianDiffusion
from ddpmkit.errors import InputError
from ddpmkit_plugins.dpm_solver_2m import DpmSolver2mConfig
from ddpmkit_plugins.dpm_solver_2m.sampler import DpmSolver2mSampler
from ddpmkit_plugins.heun import HeunConfig
from ddpmkit_plugins.heun.sampler import HeunSampler
from ddpmkit_plugins.linear import LinearConfig
from ddpmkit_plugins.linear.schedule import LinearSchedule
from ddpmkit_plugins.unipc import UniPcConfig
from ddpmkit_plugins.unipc.sampler import UniPcSampler

THEIR_NAMES = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
SOLVERS: dict[str, Sampler] = {
    "dpm-solver-2m": DpmSolver2mSampler(DpmSolver2mConfig(clip_x0=False)),
    "unipc": UniPcSampler(UniPcConfig(clip_x0=False)),
    "heun": HeunSampler(HeunConfig(clip_x0=False)),
}
MEAN, VARIANCE = 0.2, 0.15**2
# Less than usual: diffusers rounds x to float32 at each step, and a noisier start amplifies the difference.
LAST_BETA = 0.006


class Noise:
    def __init__(self) -> None:
        self.requested: list[int] = []

    def __call__(self, draw: int) -> Tensor:
        self.requested.append(draw)
        return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(draw), dtype=torch.float64)


def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
    """Smooth and nonlinear; mixes pixels; depends on t."""
    return torch.sin(2 * x + 0.001 * t[:, None, None, None]) + 0.3 * x.roll(1, dims=-1)


def alpha_bar(timesteps: int = 1000) -> Tensor:
    return LinearSchedule(LinearConfig(last_beta=LAST_BETA), timesteps=timesteps).alphas_cumprod()


def process(prediction: Prediction = "epsilon", exact: Tensor | None = None) -> GaussianDiffusion:
    """With buffers in float64."""
    exact = alpha_bar() if exact is None else exact
    diffusion = GaussianDiffusion(exact, prediction)
    diffusion.sqrt_alpha_bar, diffusion.sqrt_one_minus_alpha_bar = exact.sqrt(), (1 - exact).sqrt()
    return diffusion


def theirs(kind: type[Any], times: list[int], exact: Tensor, **options: Any) -> Any:
    """A scheduler of diffusers with these timesteps of alpha_bar `exact`, and coefficients in float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy, to diffusers
        scheduler = kind(1000, beta_schedule="linear", beta_start=1e-4, beta_end=LAST_BETA, **options)
        scheduler.set_timesteps(len(times))
    sigma = ((1 - exact) / exact).sqrt()[times]
    scheduler.timesteps = torch.tensor(times)
    scheduler.sigmas = torch.cat([sigma, sigma.new_zeros(1)])
    scheduler.num_inference_steps = len(times)
    return scheduler


def no_step_longer_than_the_one_before(bend: float) -> Tensor:
    """In lambda: for such steps the solvers are exactly those of the papers. At `bend` 0 all steps are equal."""
    u = torch.linspace(0, 1, 1000, dtype=torch.float64)
    return torch.sigmoid(2 * (4 - 5.5 * (u + bend * u * u) / (1 + bend)))


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize(("steps", "bend"), [(1, 0), (2, 0), (10, 0), (28, 0), (10, 1), (25, 1)])
@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("dpm-solver-2m", DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
        ("unipc", UniPCMultistepScheduler, {"solver_type": "bh2"}),
    ],
)
def test_multistep_solvers_equal_diffusers(
    name: str, kind: type[Any], options: dict[str, Any], steps: int, bend: float, prediction: Prediction
) -> None:
    exact = no_step_longer_than_the_one_before(bend)
    ours = process(prediction, exact)
    *frames, last = SOLVERS[name].sample(Denoiser(network, ours), Noise(), steps)
    times = [frame.t - 1 for frame in frames]
    options = {"prediction_type": THEIR_NAMES[prediction], "solver_order": 2, "final_sigmas_type": "zero", **options}
    scheduler = theirs(kind, times, exact, **options)
    x = Noise()(0)
    for t in times:
        x = scheduler.step(network(x, torch.full((2,), t), None), t, x).prev_sample
    torch.testing.assert_close(last.x, x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 8, 28])
def test_heun_equals_diffusers(steps: int) -> None:
    exact = no_step_longer_than_the_one_before(0)
    ours = process(exact=exact)
    noise = Noise()
    *frames, last = SOLVERS["heun"].sample(Denoiser(network, ours), noise, steps)
    times = [frame.t - 1 for frame in frames]
    scheduler = theirs(HeunDiscreteScheduler, times, exact)
    # diffusers has each timestep except the first twice: as the end of a step, and as the start of the next.
    twice = [times[0], *(t for t in times[1:] for _ in range(2))]
    sigma = scheduler.sigmas
    scheduler.sigmas = torch.cat([sigma[:1], sigma[1:-1].repeat_interleave(2), sigma[-1:]])
    scheduler.timesteps = torch.tensor(twice)
    # x of diffusers is image + sigma noise.
    x = noise(0) / math.sqrt(ours.alpha_bar_at(times[0]))
    for number, t in enumerate(twice):
        asked = scheduler.scale_model_input(x, t)
        scheduler._step_index = number
        x = scheduler.step(network(asked, torch.full((2,), t), None), t, x).prev_sample
    torch.testing.assert_close(last.x, x, rtol=0, atol=1e-5)


def exact_eps(gaussian: GaussianDiffusion) -> Denoiser:
    """The optimal network for data N(MEAN, VARIANCE)."""

    def optimal(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        bar = gaussian.alpha_bar_at(int(t[0]))
        return math.sqrt(1 - bar) * (x - math.sqrt(bar) * MEAN) / (bar * VARIANCE + 1 - bar)

    return Denoiser(optimal, gaussian)


def error(sampler: Sampler, steps: int) -> float:
    """The error against the exact probability flow of a Gaussian, which keeps (x - mean) / standard deviation."""
    even = torch.sigmoid(torch.linspace(5, -5, 1000, dtype=torch.float64))
    gaussian = process(exact=even)
    *_, last = sampler.sample(exact_eps(gaussian), noise := Noise(), steps)
    bar = gaussian.alpha_bar_at(999)
    share = (noise(0) - math.sqrt(bar) * MEAN) / math.sqrt(bar * VARIANCE + 1 - bar)
    # The image is the estimate at t = 0, whatever the number of steps.
    bar = gaussian.alpha_bar_at(0)
    x = math.sqrt(bar) * MEAN + share * math.sqrt(bar * VARIANCE + 1 - bar)
    return float((last.x - exact_eps(gaussian)(x, 0).x0).abs().max())


@pytest.mark.parametrize("name", SOLVERS)
def test_three_times_the_steps_divide_the_error_by_nine_on_a_gaussian(name: str) -> None:
    """Second order: Karras et al. (2022), section 3; Lu et al. (2022), theorem B.1; Zhao et al. (2023), theorem 3.1."""
    errors = [error(SOLVERS[name], steps) for steps in (40, 120, 360)]
    assert all(after < before / 6 for before, after in pairwise(errors))
    assert errors[-1] < 2e-3


def test_the_corrector_needs_no_network_call_and_reduces_the_error() -> None:
    without, with_it = UniPcSampler(UniPcConfig(clip_x0=False, corrector=False)), SOLVERS["unipc"]
    assert without.network_calls(10) == with_it.network_calls(10) == 10
    assert error(with_it, 15) < error(without, 15)


@pytest.mark.parametrize(("name", "expected"), [("dpm-solver-2m", 7), ("unipc", 7), ("heun", 13)])
def test_network_calls_is_the_number_of_network_calls(name: str, expected: int) -> None:
    calls: list[int] = []

    def counted(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        calls.append(int(t[0]))
        return network(x, t, label)

    frames = list(SOLVERS[name].sample(Denoiser(counted, process()), Noise(), 7))
    assert len(calls) == SOLVERS[name].network_calls(7) == expected
    assert [frame.t for frame in frames] == [t + 1 for t in process().sampling_timesteps(7, 0.5)] + [0]


@pytest.mark.parametrize("name", SOLVERS)
def test_images_stay_in_range_if_x0_is_clamped(name: str) -> None:
    clamping = type(SOLVERS[name])(type(SOLVERS[name].config)())  # type: ignore[attr-defined, call-arg]
    *_, last = clamping.sample(Denoiser(lambda x, t, label: 0.9 * x, process()), Noise(), 20)
    assert last.x.abs().max() <= 1


@pytest.mark.parametrize("name", ["dpm-solver-2m", "unipc"])
def test_multistep_solvers_start_at_zero_terminal_snr(name: str) -> None:
    """At alpha_bar = 0, the first step composes x0_hat with the noise of the next timestep."""
    zero = alpha_bar(50).clone()
    zero[-1] = 0
    gaussian = process("v", zero)
    frames = list(SOLVERS[name].sample(Denoiser(network, gaussian), Noise(), 50))
    bar = gaussian.alpha_bar_at(48)
    first = math.sqrt(bar) * frames[0].x0_hat + math.sqrt(1 - bar) * Noise()(0)
    assert torch.isfinite(frames[-1].x).all()
    if name == "dpm-solver-2m":
        torch.testing.assert_close(frames[1].x, first, rtol=1e-9, atol=1e-9)


def test_heun_rejects_zero_terminal_snr() -> None:
    zero = alpha_bar(50).clone()
    zero[-1] = 0
    with pytest.raises(InputError, match="cannot start at alpha_bar = 0"):
        next(SOLVERS["heun"].sample(Denoiser(network, process("v", zero)), Noise(), 10))


@pytest.mark.parametrize("steps", [5, 10, 50])
def test_a_long_step_of_heun_does_not_leave_the_range_of_the_clamp(steps: int) -> None:
    # Cosine with T = 50 starts at a noise level of 1015, and 10 evenly spaced steps continue at 6: an error of the
    # slope grows by a factor of 170.
    angle = (torch.arange(51, dtype=torch.float64) / 50 + 0.008) / 1.008 * math.pi / 2
    cosine = (angle.cos() ** 2 / angle[0].cos() ** 2)[1:].clamp(min=1e-6)
    ours = process("x0", cosine)
    before, after, *_ = HeunSampler(HeunConfig(log_snr_spacing=0)).sample(Denoiser(network, ours), Noise(), steps)
    noise = before.x / math.sqrt(1 - cosine[-1])
    bar = float(cosine[after.t - 1])
    image = (after.x - math.sqrt(1 - bar) * noise) / math.sqrt(bar)
    assert image.abs().max() < 1.01


def test_churn_adds_noise_between_churn_from_and_churn_to_only() -> None:
    noise = Noise()
    churned = HeunSampler(HeunConfig(clip_x0=False, churn=20.0, churn_from=0.05, churn_to=4.0))
    frames = list(churned.sample(Denoiser(network, gaussian := process()), noise, 25))
    levels = [
        math.sqrt((1 - bar) / bar) for t in gaussian.sampling_timesteps(25, 0.5) for bar in [gaussian.alpha_bar_at(t)]
    ]
    expected = [draw for draw, sigma in enumerate(levels, start=1) if 0.05 <= sigma <= 4]
    assert 0 < len(expected) < 25
    assert noise.requested == [0, *expected]
    deterministic = list(SOLVERS["heun"].sample(Denoiser(network, gaussian), Noise(), 25))
    assert not torch.allclose(frames[-1].x, deterministic[-1].x)


def test_churn_keeps_the_distribution_of_a_gaussian() -> None:
    """Adding noise and removing it again keeps the distribution: Karras et al. (2022), section 4."""
    gaussian = process()

    def many(draw: int) -> Tensor:
        return torch.randn(4000, 1, 2, 2, generator=torch.Generator().manual_seed(draw), dtype=torch.float64)

    config = HeunConfig(clip_x0=False, churn=20.0, churn_noise=1.0)
    *_, last = HeunSampler(config).sample(exact_eps(gaussian), many, 100)
    pixels = last.x.numpy().ravel()
    assert np.mean(pixels) == pytest.approx(MEAN, abs=0.01)
    assert np.std(pixels) == pytest.approx(math.sqrt(VARIANCE), rel=0.03)
