"""The reverse Markov chain: Ho et al. (2020), algorithm 2 (https://arxiv.org/abs/2006.11239)."""

from collections.abc import Iterator
from itertools import pairwise

from ddpmkit.contracts import NoiseSource, SamplerState
from ddpmkit.diffusion import Denoiser
from ddpmkit_plugins.ancestral import AncestralConfig


class AncestralSampler:
    """Samples x_s from q(x_s | x_t, x0_hat), with the posterior variance, or the learned variance if there is one.

    First order, one network call a step, random: every step but the last adds new noise. Fewer steps than T take longer
    strides: Nichol & Dhariwal (2021), eq. 19 (https://arxiv.org/abs/2102.09672).
    """

    def __init__(self, config: AncestralConfig) -> None:
        """Store the config."""
        self.config = config

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Yield the frames. Step i adds noise(i)."""
        x = noise(0)
        for step, (t, s) in enumerate(pairwise([*denoiser.process.sampling_timesteps(steps), -1]), start=1):
            x0_hat, _, spread = denoiser(x, t, clip_x0=self.config.clip_x0)
            yield SamplerState(t + 1, x, x0_hat)
            # The posterior of the last step has no variance, so it needs no noise.
            x = x0_hat if s < 0 else denoiser.process.p_sample(x0_hat, x, t, noise(step), s, spread)
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        """Return `steps`: one call a step."""
        return steps
