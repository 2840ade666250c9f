"""What a sampler must do, tried on data whose noise is known exactly: a Gaussian, and a single picture."""

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
    """Draw two images."""
    return {f"frame {number}": frame.x for number, frame in enumerate(_run(subject, 7).frames)}


class _Exact:
    """The noise prediction of N(_MEAN, std^2) data: E[eps | x_t] of two jointly Gaussian variables."""

    def __init__(self, process: GaussianDiffusion, std: float) -> None:
        self.process, self.std, self.calls = process, std, 0

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        self.calls += 1
        bar = self.process.alpha_bar_at(int(t[0]))
        return math.sqrt(1 - bar) * (x - math.sqrt(bar) * _MEAN) / (bar * self.std**2 + 1 - bar)


def _process(timesteps: int) -> GaussianDiffusion:
    t = torch.arange(1, timesteps + 1, dtype=torch.float64) / timesteps
    return GaussianDiffusion(torch.cos(t * math.pi / 2 * 0.999) ** 2)


class _Walk(NamedTuple):
    """What one run of the sampler showed."""

    frames: list[SamplerState]
    calls: int
    start: Tensor


def _run(
    subject: Subject, steps: int, indices: Sequence[int] = (0, 1), std: float = _STD, timesteps: int = _TIMESTEPS
) -> _Walk:
    network = _Exact(process := _process(timesteps), std)
    noise = ImageNoise(0, indices, (3, 8, 8), torch.device("cpu"))
    frames = list(subject.build().sample(Denoiser(network, process), noise, steps))
    return _Walk(frames, network.calls, noise(0))


def _frames(subject: Subject) -> None:
    for steps in _STEPS:
        frames, _, start = _run(subject, steps)
        times = [frame.t for frame in frames]
        require(len(frames) == steps + 1, f"{counted(len(frames), 'frame')} for {counted(steps, 'step')}")
        require(times[0] == _TIMESTEPS and times[-1] == 0, f"t runs from {times[0]} to {times[-1]}, T = {_TIMESTEPS}")
        require(times == sorted(set(times), reverse=True), f"t does not fall: {times}")
        require(torch.equal(frames[0].x, start), "x of the first frame is not draw 0 of the noise source")
        require(torch.equal(frames[-1].x, frames[-1].x0_hat), "x and x0_hat differ at t = 0")


def _any_steps(subject: Subject) -> None:
    for steps, timesteps in ((1, 1), (1, 2), (2, 2), (2, _TIMESTEPS), (3, _TIMESTEPS), (_TIMESTEPS - 1, _TIMESTEPS)):
        try:
            x = _run(subject, steps, timesteps=timesteps).frames[-1].x
        except (ComponentUnavailable, NotChecked):
            raise
        except BaseException as error:
            if is_interrupt(error):
                raise
            require(False, f"at {counted(steps, 'step')} of T = {timesteps} it raised {error_text(error)}")
        infinite = int((~x.isfinite()).sum())
        require(
            infinite == 0,
            f"{infinite} of {x.numel()} numbers not finite at {counted(steps, 'step')} of T = {timesteps}",
        )


def _steps_refused(subject: Subject) -> None:
    for steps in (0, _TIMESTEPS + 1):
        try:
            frames = _run(subject, steps).frames
        except InputError:
            continue
        require(False, f"{counted(steps, 'step')} of T = {_TIMESTEPS} gave {counted(len(frames), 'frame')}")


def _calls(subject: Subject) -> None:
    for steps in _STEPS:
        calls, announced = _run(subject, steps).calls, subject.build().network_calls(steps)
        require(calls == announced, f"{counted(calls, 'call')}, {announced:,} announced, at {counted(steps, 'step')}")


def _independent(subject: Subject) -> None:
    alone, among = (_run(subject, 20, indices).frames[-1].x for indices in ([5], [3, 4, 5]))
    error = float((alone[0] - among[2]).abs().max())
    require(error < 1e-5, f"image 5 differs by {error:.3g} when 3 and 4 are drawn with it")


def _gaussian(subject: Subject) -> None:
    pixels = _run(subject, _TIMESTEPS, range(64)).frames[-1].x
    mean, std = float(pixels.mean()), float(pixels.std())
    # 64 images of 192 pixels: the mean is known to 0.0014; what a chain of 200 steps loses of the spread is below 10 %.
    good = abs(mean - _MEAN) < 0.01 and abs(std / _STD - 1) < 0.1
    require(good, f"mean {mean:.3f} for {_MEAN}, standard deviation {std:.3f} for {_STD}, at {_TIMESTEPS} steps")


def _last_step(subject: Subject) -> None:
    for steps in _STEPS:
        # The last x0_hat is known to be the picture itself, so whatever lies beside it was added.
        x = _run(subject, steps, std=0.0).frames[-1].x
        error = float((x - _MEAN).abs().max())
        require(
            error < 2e-3, f"of data that is {_MEAN} everywhere, an image off by up to {error:.3g}, at {steps} steps"
        )


def _x0_hat(subject: Subject) -> None:
    for steps in _STEPS:
        for frame in _run(subject, steps, std=0.0).frames[:-1]:
            error = float((frame.x0_hat - _MEAN).abs().max())
            require(error < 5e-3, f"of data that is {_MEAN} everywhere, x0_hat off by {error:.3g} at t = {frame.t}")


RULES = (
    Rule(
        "sampler.frames",
        "does it yield every frame from (T, pure noise) down to (0, the image)?",
        "Yield (t + 1, x, x0_hat) before each step is taken, so one frame a step, and (0, x, x) at the end. The first "
        "x is `noise(0)` itself.",
        _frames,
    ),
    Rule(
        "sampler.any-steps",
        "does it work with any number of steps from 1 to T, and with T = 1?",
        "Look at what a first step lacks (a step before it) and at what the last one divides by: at t = -1 alpha_bar "
        "is 1, and the logarithm of its SNR is infinite.",
        _any_steps,
    ),
    Rule(
        "sampler.steps-refused",
        "is a number of steps outside 1 .. T refused with InputError?",
        "`denoiser.process.sampling_timesteps(steps)` does so, and says between what it must lie.",
        _steps_refused,
    ),
    Rule(
        "sampler.calls",
        "does it ask the network as often as it says?",
        "`network_calls(steps)` is what a run announces as its cost. Count the calls of the denoiser in `sample`: a "
        "method of second order often saves one in the last step.",
        _calls,
    ),
    Rule(
        "sampler.independent",
        "is an image the same, whatever images are drawn beside it?",
        "Compute nothing over the batch, and take noise from the noise source only: it knows which images these are.",
        _independent,
    ),
    Rule(
        "sampler.gaussian",
        "does it return the Gaussian whose exact noise prediction it is given?",
        "Compare each coefficient with the paper. Too wide: noise of too large a variance, or drawn twice; too "
        "narrow: noise left out, or one draw used at every step; a wrong mean: alpha_bar of t where that of the next "
        "is meant.",
        _gaussian,
    ),
    Rule(
        "sampler.no-noise-last",
        "is the last step taken without noise?",
        "The posterior's variance is 0 there: leave the noise out of the step to t = -1, or multiply it by that 0.",
        _last_step,
    ),
    Rule(
        "sampler.x0-hat",
        "is x0_hat of each frame the clean image as estimated there?",
        "It is the denoiser's x0 at the frame's x, clamped or not; not eps, not the x of the next frame. Grids and "
        "films show it.",
        _x0_hat,
    ),
)
