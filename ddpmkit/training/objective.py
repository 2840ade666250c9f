"""What the network is asked in training, and how wrong its answer is: Ho et al. (2020), algorithm 1.

It does not know the weights' gradient, nor in what order images come.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ddpmkit.contracts import ImageShape, Loss
from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit.randomness import Purpose, normal
from ddpmkit.runtime import Runtime

__all__ = ["Objective"]


@dataclass(frozen=True)
class Objective:
    """The process that noises images, and the loss of the network's answer."""

    process: GaussianDiffusion
    loss: Loss
    offset_noise: float = 0.0
    """Standard deviation of noise that all pixels of a channel share; the recipe says what it is for."""

    def noise(self, seed: int, step: int, positions: Sequence[int], image_shape: ImageShape) -> Tensor:
        """The noise of these images of the batch of `step`: float32 [B, C, H, W], on the CPU."""
        noise = normal(seed, Purpose.NOISE, step, positions, image_shape)
        if self.offset_noise:
            shared = normal(seed, Purpose.OFFSET, step, positions, (image_shape.channels, 1, 1))
            noise += self.offset_noise * shared
        return noise

    def losses(self, network: nn.Module, x0: Tensor, t: Tensor, noise: Tensor, runtime: Runtime) -> Tensor:
        """Per-sample losses [B] at x0 [B, C, H, W], t int64 [B] and noise."""
        process = self.process
        with runtime.autocast():
            prediction = network(process.q_sample(x0, t, noise), t, None)
        return self.loss(prediction.float(), process.target(x0, t, noise), process.alpha_bar[t])
