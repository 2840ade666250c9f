"""Every solver against the probability flow of a mixture of Gaussians, which is known exactly.

In one dimension the flow keeps the order of the points, so it takes the quantile q of x_t to the quantile q of x_0:
both are quantiles of mixtures, and the network is the exact posterior mean. Pixels are independent, so that one batch
holds as many one-dimensional paths as one likes.
"""

import math
from collections.abc import Callable
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
MIXTURES = {
    "one": [(1.0, 0.2, 0.15)],
    "wide": [(0.5, -0.3, 0.2), (0.5, 0.35, 0.18)],
    "three": [(0.3, -0.6, 0.1), (0.4, 0.1, 0.15), (0.3, 0.65, 0.1)],
    "narrow": [(0.2, -0.8, 0.02), (0.3, 0.0, 0.05), (0.5, 0.5, 0.03)],
}


class Mixture:
    def __init__(self, name: str) -> None:
        self.weight, self.mean, self.std = torch.tensor(MIXTURES[name], dtype=torch.float64).T

    def noised(self, bar: float) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each Gaussian in x_t."""
        return math.sqrt(bar) * self.mean, (bar * self.std**2 + 1 - bar).sqrt()

    def x0(self, x: Tensor, bar: float) -> Tensor:
        """E[x_0 | x_t]."""
        mean, std = self.noised(bar)
        away = x[..., None] - mean
        share = torch.softmax(self.weight.log() - std.log() - (away / std).square() / 2, dim=-1)
        return (share * (self.mean + math.sqrt(bar) * self.std**2 / std**2 * away)).sum(dim=-1)

    def carried(self, x: Tensor, bar: float, to: float = 1.0) -> Tensor:
        """Where the flow takes x_t with alpha_bar = `bar` at alpha_bar = `to`: the same quantile, by bisection."""

        def share_below(y: Tensor, bar: float) -> Tensor:
            mean, std = self.noised(bar)
            return (self.weight * torch.special.ndtr((y[..., None] - mean) / std)).sum(dim=-1)

        wanted, low, high = share_below(x, bar), torch.full_like(x, -3), torch.full_like(x, 3)
        for _ in range(60):
            middle = (low + high) / 2
            under = share_below(middle, to) < wanted
            low, high = torch.where(under, middle, low), torch.where(under, high, middle)
        return low


def alpha_bar(schedule: str, timesteps: int) -> Tensor:
    return SCHEDULES[schedule](timesteps=timesteps).alphas_cumprod()


def in_float64(exact: Tensor, prediction: Prediction) -> GaussianDiffusion:
    """With buffers that were never rounded to float32."""
    made = GaussianDiffusion(exact, prediction)
    made.sqrt_alpha_bar, made.sqrt_one_minus_alpha_bar = exact.sqrt(), (1 - exact).sqrt()
    return made


def error(
    sampler: Sampler,
    mixture: Mixture,
    process: GaussianDiffusion,
    steps: int,
    dtype: torch.dtype = torch.float64,
    *,
    before_the_last_step: bool = False,
) -> float:
    """Root mean square over 501 evenly spread quantiles of the noise: of the image, or of x at t = 0."""

    def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        bar = process.alpha_bar_at(int(t[0]))
        x0 = mixture.x0(x.double(), bar)
        eps = (x - math.sqrt(bar) * x0) / math.sqrt(1 - bar)
        answers = {"x0": x0, "epsilon": eps, "v": math.sqrt(bar) * eps - math.sqrt(1 - bar) * x0}
        return answers[process.prediction].to(dtype)

    noise = torch.special.ndtri((torch.arange(501, dtype=torch.float64) + 0.5) / 501)[:, None, None, None]
    *_, before, last = sampler.sample(Denoiser(network, process), lambda draw: noise.to(dtype), steps)
    found, end = (before.x, process.alpha_bar_at(0)) if before_the_last_step else (last.x, 1.0)
    exact = mixture.carried(noise, process.alpha_bar_at(process.timesteps - 1), end)
    return float((found - exact).square().mean().sqrt())


def solvers(**keys: bool) -> dict[str, Sampler]:
    """With these keys of their config."""
    return {
        "dpm-solver-2m": DpmSolver2mSampler(DpmSolver2mConfig(**keys)),
        "unipc": UniPcSampler(UniPcConfig(**keys)),
        "unipc without corrector": UniPcSampler(UniPcConfig(corrector=False, **keys)),
        "heun": HeunSampler(HeunConfig(**keys)),
    }


@pytest.mark.parametrize(("timesteps", "clip_x0"), [(50, True), (1000, True), (1000, False)])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", MIXTURES)
def test_from_ten_steps_on_no_solver_is_worse_than_ddim(
    name: str, schedule: str, timesteps: int, clip_x0: bool
) -> None:
    """In many of these the step to t = 0 is several times as long, in log-SNR, as the one before it."""
    mixture, process = Mixture(name), in_float64(alpha_bar(schedule, timesteps), "epsilon")
    for steps in (10, 20, 50):
        ddim = error(DdimSampler(DdimConfig(clip_x0=clip_x0)), mixture, process, steps)
        found = {solver: error(made, mixture, process, steps) for solver, made in solvers(clip_x0=clip_x0).items()}
        assert max(found.values()) < ddim, (steps, ddim, found)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("timesteps", [50, 1000])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_nor_in_single_precision_with_any_prediction(schedule: str, timesteps: int, prediction: Prediction) -> None:
    mixture, process = Mixture("three"), GaussianDiffusion(alpha_bar(schedule, timesteps), prediction)
    for steps in (10, 20):
        ddim = error(DdimSampler(DdimConfig()), mixture, process, steps, torch.float32)
        found = {solver: error(made, mixture, process, steps, torch.float32) for solver, made in solvers().items()}
        assert max(found.values()) < ddim, (steps, ddim, found)


@pytest.mark.parametrize("prediction", ["x0", "v"])
@pytest.mark.parametrize("timesteps", [50, 1000])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "edm"])
def test_nor_from_no_signal_at_all(schedule: str, timesteps: int, prediction: Prediction) -> None:
    mixture = Mixture("three")
    process = in_float64(with_zero_terminal_snr(alpha_bar(schedule, timesteps)), prediction)
    for steps in (10, 20, 50):
        ddim = error(DdimSampler(DdimConfig()), mixture, process, steps)
        others = {name: made for name, made in solvers().items() if name != "heun"}  # refuses to
        found = {solver: error(made, mixture, process, steps) for solver, made in others.items()}
        assert max(found.values()) < ddim, (steps, ddim, found)


@pytest.mark.parametrize(
    ("solver", "order"), [("dpm-solver-2m", 2), ("unipc", 3), ("unipc without corrector", 2), ("heun", 2)]
)
def test_the_error_falls_with_the_order_of_the_solver(solver: str, order: int) -> None:
    """Its slope over the number of steps, both in logarithms, where each step differs from the one before in length.

    Lu et al. (2022), theorem B.1; Karras et al. (2022), section 3; Zhao et al. (2023), theorem 3.1: the corrector adds
    an order.
    """
    u = torch.linspace(1, -1, 4801, dtype=torch.float64)
    process = in_float64(torch.sigmoid(12 * (u - 0.1 * torch.sin(math.pi * u))), "epsilon")
    sampler, mixture = solvers()[solver], Mixture("wide")
    errors = [error(sampler, mixture, process, steps, before_the_last_step=True) for steps in (121, 241)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15), errors
