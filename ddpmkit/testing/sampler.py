"""What a sampler must do, tried on a Gaussian whose noise is known exactly."""

import math

import torch
from torch import Tensor

from ddpmkit.contracts import SamplerState
from ddpmkit.diffusion import Denoiser, GaussianDiffusion
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
    yield "calls", "does it ask the network as often as it says?", "Mend `network_calls`.", _calls
    yield "repeatable", "does equal noise give equal images?", "Take noise from the noise source alone.", _repeatable
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


def _run(subject: Subject, steps: int, count: int = 2) -> tuple[list[SamplerState], int, Tensor]:
    network = _Exact(process := _process())
    noise = ImageNoise(0, range(count), (3, 8, 8), torch.device("cpu"))
    frames = list(subject.build().sample(Denoiser(network, process), noise, steps))
    return frames, network.calls, noise(0)


def _frames(subject: Subject) -> None:
    for steps in (1, 7, _TIMESTEPS):
        frames, _, noise = _run(subject, steps)
        times = [frame.t for frame in frames]
        require(times[0] == _TIMESTEPS and times[-1] == 0, f"t runs from {times[0]} to {times[-1]}")
        require(times == sorted(set(times), reverse=True), f"t does not fall: {times}")
        require(torch.equal(frames[0].x, noise), "the first frame is not draw 0 of the noise source")
        require(torch.equal(frames[-1].x, frames[-1].x0_hat), "x and x0_hat differ at t = 0")


def _calls(subject: Subject) -> None:
    for steps in (1, 7, _TIMESTEPS):
        _, calls, _ = _run(subject, steps)
        said = subject.build().network_calls(steps)
        require(calls == said, f"{calls} calls, {said} announced, at {steps} steps")


def _repeatable(subject: Subject) -> None:
    first, second = (_run(subject, 20)[0][-1].x for _ in range(2))
    require(torch.equal(first, second), "two runs on equal noise differ")


def _gaussian(subject: Subject) -> None:
    frames, _, _ = _run(subject, _TIMESTEPS, count=64)
    pixels = frames[-1].x
    mean, std = float(pixels.mean()), float(pixels.std())
    # 64 images of 192 pixels: the mean is known to 0.0014; what a chain of 200 steps loses of the spread is below 10 %.
    require(abs(mean - _MEAN) < 0.01 and abs(std / _STD - 1) < 0.1, f"mean {mean:.3f}, standard deviation {std:.3f}")
