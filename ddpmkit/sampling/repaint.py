"""RePaint's resampling: parts of the reverse process are repeated, with the noise added back before each repetition.

Inpainting uses it. With a single pass the generated pixels match the known ones badly, because the network sees at each
step only how the known pixels looked one step before.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from ddpmkit.contracts import Denoiser, NoiseSource, Sampler, SamplerState

__all__ = ["RePaint"]

_SEGMENTS = 10
"""Number of parts of the reverse process."""


@dataclass(frozen=True)
class RePaint:
    """A sampler that repeats each part of another sampler's reverse process. A `ddpmkit.contracts.Sampler`.

    Lugmayr et al. (2022), "RePaint", algorithm 1 (https://arxiv.org/abs/2201.09865), except that it goes back a tenth
    of the process instead of one step. In each pass, the other sampler starts with all its remaining steps and is
    stopped at the end of the segment. Only the frames of the last pass over each segment are yielded.
    """

    sampler: Sampler
    passes: int
    """Passes over each segment; 1 is the sampler alone."""

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Yield the frames of the last pass over each segment, and the finished image.

        Raises InputError if `steps` is not in 1 .. T.
        """
        process = denoiser.process
        process.sampling_timesteps(steps)  # only to check `steps`
        segment, total_passes = self._plan(steps)
        x, start, done = noise(0), process.timesteps, 0
        for remaining in range(steps, 0, -segment):
            remaining_denoiser = denoiser.truncated(start)
            for repetition in range(self.passes):
                pass_noise = _PassNoise(noise, done, total_passes, x)
                all_frames = self.sampler.sample(remaining_denoiser, pass_noise, remaining)
                frames = islice(all_frames, min(segment, remaining))
                is_last = repetition == self.passes - 1
                if is_last:
                    yield from frames
                else:
                    deque(frames, maxlen=0)
                end, done = next(all_frames), done + 1
                if not is_last:
                    x = process.add_noise(end.x, end.t - 1, start - 1, noise(done))
            x, start = end.x, end.t
        yield end

    def network_calls(self, steps: int) -> int:
        """Return the network calls for one batch. A pass that is stopped early wastes the call for its last frame."""
        segment, _ = self._plan(steps)
        calls = 0
        for remaining in range(steps, 0, -segment):
            after = remaining - segment
            calls += self.sampler.network_calls(remaining)
            calls -= self.sampler.network_calls(after) - 1 if after > 0 else 0
        return self.passes * calls

    def _plan(self, steps: int) -> tuple[int, int]:
        """Return the number of steps of one segment, and of passes over all segments together."""
        segment = -(-steps // _SEGMENTS)
        return segment, self.passes * -(-steps // segment)


@dataclass(frozen=True)
class _PassNoise:
    """The noise source of one pass: no draw is used by two passes. Draw 0 is the start of the pass."""

    noise: NoiseSource
    index: int
    total: int
    start: Tensor

    def __call__(self, draw: int) -> Tensor:
        return self.start if draw == 0 else self.noise(draw * self.total + self.index)
