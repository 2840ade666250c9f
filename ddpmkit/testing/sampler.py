"""The checks of a sampler, on data whose noise is known exactly: a Gaussian, and a single image."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ddpmkit.contracts import SamplerState
from ddpmkit.diffusion import Denoiser, GaussianDiffusion
from ddpmkit.errors import ComponentUnavailable, InputError, error_text
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plural import counted
from ddpmkit.randomness import ImageNoise
from ddpmkit.testing.checks import Rule
from ddpmkit.testing.failures import NotChecked, require
from ddpmkit.testing.subject import Results, Subject

__all__ = ["RULES", "use"]

_TIMESTEPS = 200
_MEAN, _STD = 0.2, 0.15
_STEPS = (1, 7, _TIMESTEPS)


def use(subject: Subject) -> Results:
    """Generate two images."""
    return {f"frame {index}": frame.x for index, frame in enumerate(_sample(subject, 7).frames)}


class _ExactNetwork:
    """The exact noise prediction for data N(_MEAN, std^2): E[eps | x_t] of two jointly Gaussian variables."""

    def __init__(self, process: GaussianDiffusion, std: float) -> None:
        self.process, self.std, self.calls = process, std, 0

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        self.calls += 1
        bar = self.process.alpha_bar_at(int(t[0]))
        return math.sqrt(1 - bar) * (x - math.sqrt(bar) * _MEAN) / (bar * self.std**2 + 1 - bar)


def _process(timesteps: int) -> GaussianDiffusion:
    t = torch.arange(1, timesteps + 1, dtype=torch.float64) / timesteps
    return GaussianDiffusion(torch.cos(t * math.pi / 2 * 0.999) ** 2)


class _Trajectory(NamedTuple):
    """The result of one call of `sample`."""

    frames: list[SamplerState]
    calls: int
    """Calls of the network."""
    start: Tensor
    """`noise(0)`."""


def _sample(
    subject: Subject, steps: int, indices: Sequence[int] = (0, 1), std: float = _STD, timesteps: int = _TIMESTEPS
) -> _Trajectory:
    network = _ExactNetwork(process := _process(timesteps), std)
    noise = ImageNoise(0, indices, (3, 8, 8), torch.device("cpu"))
    frames = list(subject.build().sample(Denoiser(network, process), noise, steps))
    return _Trajectory(frames, network.calls, noise(0))


def _frames(subject: Subject) -> None:
    for steps in _STEPS:
        frames, _, start = _sample(subject, steps)
        times = [frame.t for frame in frames]
        require(
            len(frames) == steps + 1,
            f"{counted(len(frames), 'frame')} instead of {steps + 1} for {counted(steps, 'step')}",
        )
        require(
            times[0] == _TIMESTEPS and times[-1] == 0,
            f"t runs from {times[0]} to {times[-1]} instead of {_TIMESTEPS} to 0, T = {_TIMESTEPS}",
        )
        require(times == sorted(set(times), reverse=True), f"t does not fall in each frame: {times}")
        require(torch.equal(frames[0].x, start), "x of the first frame is not noise(0)")
        require(torch.equal(frames[-1].x, frames[-1].x0_hat), "x and x0_hat differ in the last frame, t = 0")


def _any_steps(subject: Subject) -> None:
    for steps, timesteps in ((1, 1), (1, 2), (2, 2), (2, _TIMESTEPS), (3, _TIMESTEPS), (_TIMESTEPS - 1, _TIMESTEPS)):
        where = f"with {counted(steps, 'step')} of T = {timesteps}"
        try:
            x = _sample(subject, steps, timesteps=timesteps).frames[-1].x
        except (ComponentUnavailable, NotChecked):
            raise
        except BaseException as error:
            if is_interrupt(error):
                raise
            require(False, f"it raised {error_text(error)} {where}")
        not_finite = int((~x.isfinite()).sum())
        require(not_finite == 0, f"{not_finite} of {x.numel()} pixels are NaN or infinity {where}")


def _steps_refused(subject: Subject) -> None:
    for steps in (0, _TIMESTEPS + 1):
        try:
            frames = _sample(subject, steps).frames
        except InputError:
            continue
        require(False, f"{counted(len(frames), 'frame')} and no error for {counted(steps, 'step')} of T = {_TIMESTEPS}")


def _calls(subject: Subject) -> None:
    for steps in _STEPS:
        calls, announced = _sample(subject, steps).calls, subject.build().network_calls(steps)
        require(
            calls == announced,
            f"{counted(calls, 'call')}, but network_calls returns {announced:,}, for {counted(steps, 'step')}",
        )


def _independent(subject: Subject) -> None:
    alone, batch = (_sample(subject, 20, indices).frames[-1].x for indices in ([5], [3, 4, 5]))
    error = float((alone[0] - batch[2]).abs().max())
    require(error < 1e-5, f"image 5 generated alone and in a batch with images 3 and 4 differs by {error:.3g}")


def _gaussian(subject: Subject) -> None:
    pixels = _sample(subject, _TIMESTEPS, range(64)).frames[-1].x
    mean, std = float(pixels.mean()), float(pixels.std())
    # The mean of 64 images of 192 pixels has a standard error of 0.0014; 200 steps lose less than 10 % of the std.
    correct = abs(mean - _MEAN) < 0.01 and abs(std / _STD - 1) < 0.1
    require(
        correct,
        f"mean {mean:.3f} instead of {_MEAN}, standard deviation {std:.3f} instead of {_STD}, with {_TIMESTEPS} steps",
    )


def _last_step(subject: Subject) -> None:
    for steps in _STEPS:
        # x0_hat of the last step is exactly the image, so any difference was added after it.
        x = _sample(subject, steps, std=0.0).frames[-1].x
        error = float((x - _MEAN).abs().max())
        require(
            error < 2e-3, f"for data that is constant {_MEAN}, a sample is off by up to {error:.3g} with {steps} steps"
        )


def _x0_hat(subject: Subject) -> None:
    for steps in _STEPS:
        for frame in _sample(subject, steps, std=0.0).frames[:-1]:
            error = float((frame.x0_hat - _MEAN).abs().max())
            require(error < 5e-3, f"for data that is constant {_MEAN}, x0_hat is off by {error:.3g} at t = {frame.t}")


RULES = (
    Rule(
        "sampler.frames",
        "yields steps + 1 frames, from (T, noise) down to (0, image)",
        "Yield (t + 1, x, x0_hat) before each step, and (0, x, x) at the end. The first x is `noise(0)` unchanged.",
        _frames,
    ),
    Rule(
        "sampler.any-steps",
        "every number of steps from 1 to T works, also if T = 1",
        "The first step has no previous step. In the last step, alpha_bar is 1 and log-SNR is infinite at t = -1: look "
        "for a division by 0.",
        _any_steps,
    ),
    Rule(
        "sampler.steps-refused",
        "a number of steps outside 1 .. T raises InputError",
        "Call `denoiser.process.sampling_timesteps(steps)`, which raises it with the valid range.",
        _steps_refused,
    ),
    Rule(
        "sampler.calls",
        "`network_calls(steps)` is the number of times that `sample` calls the denoiser",
        "A run reports this number as its cost. A second-order method often saves one call in the last step.",
        _calls,
    ),
    Rule(
        "sampler.independent",
        "an image does not depend on the other images of the batch",
        "Compute nothing over the batch, and take random numbers only from `noise`, which is keyed by the image index.",
        _independent,
    ),
    Rule(
        "sampler.gaussian",
        "samples have the right mean and variance if the data are Gaussian and the noise prediction is exact",
        "Compare each coefficient with the paper. If the variance is too large, look for noise with too large a "
        "variance, or noise that is added twice. If it is too small, look for missing noise, or equal noise in every "
        "step. If the mean is wrong, look for alpha_bar of t instead of the next timestep.",
        _gaussian,
    ),
    Rule(
        "sampler.no-noise-last",
        "the last step adds no noise",
        "The posterior variance is 0 in the last step: do not add noise in the step to t = -1, or multiply it by 0.",
        _last_step,
    ),
    Rule(
        "sampler.x0-hat",
        "x0_hat of each frame is the denoiser's estimate of the clean image at x",
        "Yield the denoiser's x0 for the x of the same frame. It may be clamped. Do not yield eps or the next x. Image "
        "grids and GIFs show x0_hat.",
        _x0_hat,
    ),
)
