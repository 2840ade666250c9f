"""Resampling: each stretch of the reverse process walked several times, with the noise added back in between.

It is for inpainting: what is painted then fits what is known, which was told to the network only a step ahead. It does
not know which sampler walks.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from ddpmkit.contracts import Denoiser, NoiseSource, Sampler, SamplerState

__all__ = ["Resampled"]

_STRETCHES = 10
"""Parts that the reverse process is walked in."""


@dataclass(frozen=True)
class Resampled:
    """A sampler made of another: Lugmayr et al. (2022), "RePaint", algorithm 1 (https://arxiv.org/abs/2201.09865).

    It goes back over a tenth of the way at once, where the algorithm goes back one step. A walk is that of the sampler
    over all that is left of the process, broken off; the frames are those of each stretch's last walk.
    """

    sampler: Sampler
    times: int
    """How often each stretch is walked; 1: as ever."""

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Every frame of the walks that count, and the finished image."""
        process = denoiser.process
        process.sampling_timesteps(steps)  # refuses what is no number of steps
        stride, walks = self._plan(steps)
        x, start, walk = noise(0), process.timesteps, 0
        for left in range(steps, 0, -stride):
            ahead = denoiser.truncated(start)
            for time in range(self.times):
                draws = _Draws(noise, walk, walks, x)
                frames = self.sampler.sample(ahead, draws, left)
                stretch = islice(frames, min(stride, left))
                if time == self.times - 1:
                    yield from stretch
                else:
                    deque(stretch, maxlen=0)
                end, walk = next(frames), walk + 1
                if time < self.times - 1:
                    x = process.add_noise(end.x, end.t - 1, start - 1, noise(walk))
            x, start = end.x, end.t
        yield end

    def network_calls(self, steps: int) -> int:
        """Where a walk is broken off, the answer for its last frame is lost: one call more."""
        stride, _ = self._plan(steps)
        calls = 0
        for left in range(steps, 0, -stride):
            rest = left - stride
            calls += self.sampler.network_calls(left) - (self.sampler.network_calls(rest) - 1 if rest > 0 else 0)
        return self.times * calls

    def _plan(self, steps: int) -> tuple[int, int]:
        """Steps of one stretch, and the number of all walks."""
        stride = -(-steps // _STRETCHES)
        return stride, self.times * -(-steps // stride)


@dataclass(frozen=True)
class _Draws:
    """The noise of one of several walks: no draw is another's. Draw 0 is where the walk starts."""

    noise: NoiseSource
    walk: int
    walks: int
    start: Tensor

    def __call__(self, draw: int) -> Tensor:
        return self.start if draw == 0 else self.noise(draw * self.walks + self.walk)
