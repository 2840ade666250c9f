"""Every solver against the exact probability flow of mixtures of Gaussians.

In one dimension the flow keeps the order of the points, so it maps quantile q of x_t to quantile q of x_0. Both are
quantiles of mixtures, and the optimal network is the posterior mean. Pixels are independent: the batch has one
quantile in each image, and one mixture in each channel.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor

from ddpmkit.contracts import Prediction, Sampler, Schedule
from ddpmkit.diffusion import Denoiser, GaussianDiffusion, with_zero_terminal_snr
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule
from ddpmkit_plugins.ddim import DdimConfig
from ddpmkit_plugins.ddim.sampler import DdimSampler
from ddpmkit_plugins.dpm_solver_2m import DpmSolver2mConfig
from ddpmkit_plugins.dpm_solver_2m.sampler import DpmSolver2mSampler
from ddpmkit_plugins.edm import EdmConfig
from ddpmkit_plugins.edm.schedule import EdmSchedule
from ddpmkit_plugins.heun import HeunConfig
from ddpmkit_plugins.heun.sampler import HeunSampler
from ddpmkit_plugins.laplace import LaplaceConfig
from ddpmkit_plugins.laplace.schedule import LaplaceSchedule
from ddpmkit_plugins.linear import LinearConfig, ScaledLinearConfig
from ddpmkit_plugins.linear.schedule import LinearSchedule, ScaledLinearSchedule
from ddpmkit_plugins.sigmoid import SigmoidConfig
from ddpmkit_plugins.sigmoid.schedule import SigmoidSchedule
from ddpmkit_plugins.unipc import UniPcConfig
from ddpmkit_plugins.unipc.sampler import UniPcSampler

SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "cosine": partial(CosineSchedule, CosineConfig()),
    "linear": partial(LinearSchedule, LinearConfig()),
    "scaled-linear": partial(ScaledLinearSchedule, ScaledLinearConfig()),
    "sigmoid": partial(SigmoidSchedule, SigmoidConfig()),
    "laplace": partial(LaplaceSchedule, LaplaceConfig()),
    "edm": partial(EdmSchedule, EdmConfig()),
}
# Weight, mean and standard deviation of each Gaussian.
SMOOTH = {
    "one": [(1.0, 0.2, 0.15)],
    "wide": [(0.5, -0.3, 0.2), (0.5, 0.35, 0.18)],
    "three": [(0.3, -0.6, 0.1), (0.4, 0.1, 0.15), (0.3, 0.65, 0.1)],
    "narrow": [(0.2, -0.8, 0.02), (0.3, 0.0, 0.05), (0.5, 0.5, 0.03)],
}
# x0_hat near the middle changes from 0 to one of both within a short interval of noise levels.
TWO_POINTS = {
    f"{mean} +- {std}": [(0.5, -mean, std), (0.5, mean, std)]
    for mean, std in [(0.3, 0.02), (0.3, 0.1), (0.6, 0.02), (0.6, 0.05), (0.6, 0.1), (0.9, 0.02), (0.9, 0.05)]
}
MIXTURES = {**SMOOTH, **TWO_POINTS, "unequal": [(0.2, -0.6, 0.05), (0.8, 0.4, 0.05)]}
HALF_GREY_LEVEL = 1 / 255
QUANTILES = 200


class Mixtures:
    """`names` of `MIXTURES`; x is [quantiles, mixtures]."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        absent = (1e-300, 0.0, 1.0)
        count = max(len(MIXTURES[name]) for name in names)
        padded = [MIXTURES[name] + [absent] * (count - len(MIXTURES[name])) for name in names]
        self.weight, self.mean, self.std = torch.tensor(padded, dtype=torch.float64).unbind(-1)
        # An even number of quantiles: the middle of a symmetric mixture is an unstable point of the flow.
        quantiles = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
        self.noise = torch.special.ndtri(quantiles)[:, None].repeat(1, len(names))

    def noised(self, bar: float) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each Gaussian in x_t."""
        return math.sqrt(bar) * self.mean, (bar * self.std**2 + 1 - bar).sqrt()

    def x0(self, x: Tensor, bar: float) -> Tensor:
        """E[x_0 | x_t]."""
        mean, std = self.noised(bar)
        distance = x[..., None] - mean
        share = torch.softmax(self.weight.log() - std.log() - (distance / std).square() / 2, dim=-1)
        return (share * (self.mean + math.sqrt(bar) * self.std**2 / std**2 * distance)).sum(dim=-1)

    def flow(self, x: Tensor, bar: float, to: float = 1.0) -> Tensor:
        """The same quantile of x at alpha_bar = `to` as x_t is at alpha_bar = `bar`, by bisection."""

        def share_below(y: Tensor, bar: float) -> Tensor:
            mean, std = self.noised(bar)
            return (self.weight * torch.special.ndtr((y[..., None] - mean) / std)).sum(dim=-1)

        target, low, high = share_below(x, bar), torch.full_like(x, -3), torch.full_like(x, 3)
        for _ in range(50):
            middle = (low + high) / 2
            is_below = share_below(middle, to) < target
            low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
        return low


class Exact:
    """The images of the exact flow, in three forms."""

    def __init__(self, mixtures: Mixtures, process: GaussianDiffusion) -> None:
        start, end = process.alpha_bar_at(process.timesteps - 1), process.alpha_bar_at(0)
        self.image = mixtures.flow(mixtures.noise, start)
        self.at_t_0 = mixtures.flow(mixtures.noise, start, end)
        # Every sampler ends with the estimate at t = 0, so this is its limit for infinitely many steps.
        self.estimate = mixtures.x0(self.at_t_0, end)


def alpha_bar(schedule: str, timesteps: int) -> Tensor:
    return SCHEDULES[schedule](timesteps=timesteps).alphas_cumprod()


def in_float64(exact: Tensor, prediction: Prediction) -> GaussianDiffusion:
    """The process with buffers in float64."""
    process = GaussianDiffusion(exact, prediction)
    process.sqrt_alpha_bar, process.sqrt_one_minus_alpha_bar = exact.sqrt(), (1 - exact).sqrt()
    return process


def sampled(
    sampler: Sampler,
    mixtures: Mixtures,
    process: GaussianDiffusion,
    steps: int,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """x at t = 0 and the image, [quantiles, mixtures] each."""

    def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        bar = process.alpha_bar_at(int(t[0]))
        x0 = mixtures.x0(x.double()[:, :, 0, 0], bar)[:, :, None, None]
        eps = (x - math.sqrt(bar) * x0) / math.sqrt(1 - bar)
        outputs = {"x0": x0, "epsilon": eps, "v": math.sqrt(bar) * eps - math.sqrt(1 - bar) * x0}
        return outputs[process.prediction].to(dtype)

    noise = mixtures.noise[:, :, None, None].to(dtype)
    *_, before, last = sampler.sample(Denoiser(network, process), lambda draw: noise, steps)
    return before.x[:, :, 0, 0].double(), last.x[:, :, 0, 0].double()


def rms(difference: Tensor) -> Tensor:
    """The root mean square of each mixture."""
    return difference.square().mean(dim=0).sqrt()


def solvers(**keys: bool) -> dict[str, Sampler]:
    """Each solver, with these config keys."""
    return {
        "dpm-solver-2m": DpmSolver2mSampler(DpmSolver2mConfig(**keys)),
        "unipc": UniPcSampler(UniPcConfig(**keys)),
        "unipc without corrector": UniPcSampler(UniPcConfig(corrector=False, **keys)),
        "heun": HeunSampler(HeunConfig(**keys)),
    }


def assert_no_solver_is_worse_than_ddim(
    mixtures: Mixtures,
    process: GaussianDiffusion,
    steps: int,
    *,
    clip_x0: bool = True,
    dtype: torch.dtype = torch.float64,
    tolerance: float = 0.0,
    without: str = "",
) -> None:
    """For the same number of steps and for each mixture, in the distance from the exact estimate at t = 0.

    For mixtures of `SMOOTH` also in the distance from the exact image.
    """
    exact = Exact(mixtures, process)
    smooth = [name in SMOOTH for name in mixtures.names]
    _, ddim = sampled(DdimSampler(DdimConfig(clip_x0=clip_x0)), mixtures, process, steps, dtype)
    for name, solver in solvers(clip_x0=clip_x0).items():
        if name == without:
            continue
        _, image = sampled(solver, mixtures, process, steps, dtype)
        for what, target, checked in [
            ("estimate", exact.estimate, [True] * len(smooth)),
            ("image", exact.image, smooth),
        ]:
            found, limit = rms(image - target), rms(ddim - target)
            worse = [
                (mixture, round(float(found[i]), 4), round(float(limit[i]), 4))
                for i, mixture in enumerate(mixtures.names)
                if checked[i] and found[i] > limit[i] + tolerance
            ]
            assert not worse, (name, steps, what, worse)


@pytest.mark.parametrize(("timesteps", "clip_x0"), [(50, True), (300, True), (1000, True), (1000, False)])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_solver_is_worse_than_ddim_from_ten_steps_on(schedule: str, timesteps: int, clip_x0: bool) -> None:
    process = in_float64(alpha_bar(schedule, timesteps), "epsilon")
    for steps in (10, 20, 40):
        # Each of the ten steps of edm is long, and longer than the one before.
        tolerance = HALF_GREY_LEVEL if (schedule, steps) == ("edm", 10) else 0
        assert_no_solver_is_worse_than_ddim(
            Mixtures(list(MIXTURES)), process, steps, clip_x0=clip_x0, tolerance=tolerance
        )


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("timesteps", [50, 1000])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_nor_in_single_precision_with_any_prediction(schedule: str, timesteps: int, prediction: Prediction) -> None:
    process = GaussianDiffusion(alpha_bar(schedule, timesteps), prediction)
    for steps in (10, 20):
        assert_no_solver_is_worse_than_ddim(Mixtures(["three", "0.6 +- 0.05"]), process, steps, dtype=torch.float32)


@pytest.mark.parametrize("prediction", ["x0", "v"])
@pytest.mark.parametrize("timesteps", [50, 1000])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "edm"])
def test_nor_at_zero_terminal_snr(schedule: str, timesteps: int, prediction: Prediction) -> None:
    process = in_float64(with_zero_terminal_snr(alpha_bar(schedule, timesteps)), prediction)
    for steps in (10, 20, 50):
        assert_no_solver_is_worse_than_ddim(Mixtures(["three", "0.6 +- 0.05"]), process, steps, without="heun")


@pytest.mark.parametrize(
    ("solver", "order"), [("dpm-solver-2m", 2), ("unipc", 3), ("unipc without corrector", 2), ("heun", 2)]
)
def test_the_error_falls_with_the_order_of_the_solver(solver: str, order: int) -> None:
    """The slope of log(error) over log(steps), if each step differs from the one before in length.

    Lu et al. (2022), theorem B.1; Karras et al. (2022), section 3; Zhao et al. (2023), theorem 3.1: the corrector adds
    an order.
    """
    u = torch.linspace(1, -1, 4801, dtype=torch.float64)
    process = in_float64(torch.sigmoid(12 * (u - 0.1 * torch.sin(math.pi * u))), "epsilon")
    mixtures = Mixtures(["wide"])
    exact = Exact(mixtures, process)
    errors = [
        float(rms(sampled(solvers()[solver], mixtures, process, steps)[0] - exact.at_t_0)) for steps in (121, 241)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15), errors
