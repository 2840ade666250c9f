"""What a sampler must do, tried on a Gaussian whose noise is known exactly."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ddpmkit.contracts import SamplerState
from ddpmkit.diffusion import Denoiser, GaussianDiffusion
from ddpmkit.errors import InputError
from ddpmkit.randomness import ImageNoise
from ddpmkit.testing.checks import Checks, Subject, require

__all__ = ["checks"]

_TIMESTEPS = 200
_MEAN, _STD = 0.2, 0.15


def checks() -> Checks:
    """Id, question, advice, and the function that asks."""
    yield (
        "frames",
        "does it yield every frame from (T, pure noise) down to (0, the image)?",
        "One frame a step before it is taken, and the finished image as its own x0_hat.",
        _frames,
    )
    yield (
        "steps",
        "is a number of steps outside 1 .. T refused with InputError?",
        "`denoiser.process.sampling_timesteps(steps)` does so.",
        _steps,
    )
    yield "calls", "does it ask the network as often as it says?", "Mend `network_calls`.", _calls
    yield "repeatable", "does equal noise give equal images?", "Take noise from the noise source alone.", _repeatable
    yield (
        "independent",
        "is an image the same, whatever images are drawn beside it?",
        "Compute nothing over the batch.",
        _independent,
    )
    yield (
        "gaussian",
        "does it return the Gaussian whose exact noise prediction it is given?",
        "Compare each step with its paper; noise must not be added in the last one.",
        _gaussian,
    )


class _Exact:
    """The noise prediction of N(_MEAN, _STD^2) data: E[eps | x_t] of two jointly Gaussian variables."""

    def __init__(self, process: GaussianDiffusion) -> None:
        self.process, self.calls = process, 0

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        self.calls += 1
        bar = self.process.alpha_bar_at(int(t[0]))
        return math.sqrt(1 - bar) * (x - math.sqrt(bar) * _MEAN) / (bar * _STD**2 + 1 - bar)


def _process() -> GaussianDiffusion:
    t = torch.arange(1, _TIMESTEPS + 1, dtype=torch.float64) / _TIMESTEPS
    return GaussianDiffusion(torch.cos(t * math.pi / 2 * 0.999) ** 2)


class _Walk(NamedTuple):
    """What one run of the sampler showed."""

    frames: list[SamplerState]
    calls: int
    start: Tensor


def _run(subject: Subject, steps: int, indices: Sequence[int] = (0, 1)) -> _Walk:
    network = _Exact(process := _process())
    noise = ImageNoise(0, indices, (3, 8, 8), torch.device("cpu"))
    frames = list(subject.build().sample(Denoiser(network, process), noise, steps))
    return _Walk(frames, network.calls, noise(0))


def _frames(subject: Subject) -> None:
    for steps in (1, 7, _TIMESTEPS):
        frames, _, start = _run(subject, steps)
        times = [frame.t for frame in frames]
        require(len(frames) == steps + 1, f"{len(frames)} frames for {steps} steps")
        require(times[0] == _TIMESTEPS and times[-1] == 0, f"t runs from {times[0]} to {times[-1]}")
        require(times == sorted(set(times), reverse=True), f"t does not fall: {times}")
        require(torch.equal(frames[0].x, start), "the first frame is not draw 0 of the noise source")
        require(torch.equal(frames[-1].x, frames[-1].x0_hat), "x and x0_hat differ at t = 0")


def _steps(subject: Subject) -> None:
    for steps in (0, _TIMESTEPS + 1):
        try:
            frames, _, _ = _run(subject, steps)
        except InputError:
            continue
        require(False, f"{steps} steps of T = {_TIMESTEPS} gave {len(frames)} frames")


def _calls(subject: Subject) -> None:
    for steps in (1, 7, _TIMESTEPS):
        calls, announced = _run(subject, steps).calls, subject.build().network_calls(steps)
        require(calls == announced, f"{calls} calls, {announced} announced, at {steps} steps")


def _repeatable(subject: Subject) -> None:
    first, second = (_run(subject, 20).frames[-1].x for _ in range(2))
    require(torch.equal(first, second), "two runs on equal noise differ")


def _independent(subject: Subject) -> None:
    alone, among = (_run(subject, 20, indices).frames[-1].x for indices in ([5], [3, 4, 5]))
    error = float((alone[0] - among[2]).abs().max())
    require(error < 1e-5, f"image 5 differs by {error:.3g} when 3 and 4 are drawn with it")


def _gaussian(subject: Subject) -> None:
    pixels = _run(subject, _TIMESTEPS, range(64)).frames[-1].x
    mean, std = float(pixels.mean()), float(pixels.std())
    # 64 images of 192 pixels: the mean is known to 0.0014; what a chain of 200 steps loses of the spread is below 10 %.
    require(abs(mean - _MEAN) < 0.01 and abs(std / _STD - 1) < 0.1, f"mean {mean:.3f}, standard deviation {std:.3f}")
