"""Generates images from a network, in batches.

Image i is a function of (weights, sampler, seed, i). Its noise is the same bit for bit in every batch. The network
rounds sums differently in a batch of another size, which may change a pixel by one grey level. On a CPU the last batch
is often smaller than the others; on other devices it is filled up, because a CUDA graph has fixed shapes.
"""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape, NoiseSource, Sampler, SamplerState
from ddpmkit.data.images import to_uint8
from ddpmkit.diffusion import Denoiser, GaussianDiffusion, Guidance, KnownPixels
from ddpmkit.diffusion.checks import describe
from ddpmkit.errors import ContractError, error_text
from ddpmkit.global_state import Guard
from ddpmkit.randomness import ImageNoise
from ddpmkit.runtime import Runtime
from ddpmkit.sampling.batch_size import choose_batch_size
from ddpmkit.sampling.initial_noise import InitialNoise, pure_noise
from ddpmkit.sampling.network_calls import EagerNetwork, NetworkCalls

__all__ = ["ImageGenerator", "warn_not_captured"]

_log = logging.getLogger(__name__)

_FIRST_CALLS = 3
"""Slow calls on CUDA: two eager ones and the capture."""


def warn_not_captured(reason: Exception, network: str = "the network") -> None:
    """Log that sampling is slower than it could be, and why."""
    _log.warning(
        "%s is called without a CUDA graph, so sampling is slower: %s", network, error_text(reason).rstrip(".")
    )


@dataclass(frozen=True)
class ImageGenerator:
    """A network and everything that is needed to generate images from it."""

    network: nn.Module = field(repr=False)
    process: GaussianDiffusion
    sampler: Sampler
    image_shape: ImageShape
    steps: int
    """Sampling steps, 1 .. T of `process`."""
    batch_size: int | Literal["auto"]
    """Images generated at once; "auto": as many as `choose_batch_size` finds. `images_per_batch` is the number."""
    runtime: Runtime
    num_classes: int = 0
    """0: unconditional. Otherwise image i has class i modulo this number, unless `chosen_class` is given."""
    guidance: float = 1.0
    """Scale of classifier-free guidance; 1 is the conditional network alone. Not used if `num_classes` is 0."""
    chosen_class: int | None = None
    """The class of every image."""
    initial_noise: InitialNoise = pure_noise
    """What the reverse process starts from."""
    known: KnownPixels | None = None
    """Pixels that every image must have."""
    guard: Guard = contextlib.nullcontext
    """Guards each call of the network ("backbone") and of the sampler ("sampler")."""
    not_captured: Callable[[Exception], None] = warn_not_captured
    """Called once, with the reason, if the network cannot be captured in a CUDA graph. It is called eagerly then."""

    @functools.cached_property
    def images_per_batch(self) -> int:
        """The largest number of images that are generated at once."""
        return choose_batch_size(self._call_once, self.runtime.device) if self.batch_size == "auto" else self.batch_size

    def frames(self, indices: Sequence[int], seed: int) -> Iterator[SamplerState]:
        """Yield every frame of the reverse process of these images, as one batch, from noise to image.

        Raises ContractError if the sampler or the network returns what its contract does not allow.
        """

        def noise_of(images: Sequence[int]) -> NoiseSource:
            return ImageNoise(seed, images, tuple(self.image_shape), self.runtime.device)

        noise = self.initial_noise(indices, noise_of, self.process)
        denoiser = self._denoiser(indices)
        is_finished = False
        with self._evaluating():
            # A sampler may return a list instead of being a generator; it then calls the network here.
            with self.runtime.settings(), torch.inference_mode(), self.guard("sampler"):
                frames = _iterator(self.sampler.sample(denoiser, noise, self.steps))
            while True:
                # Entered for each frame: a generator must not leave its caller in inference mode.
                with self.runtime.settings(), torch.inference_mode(), self.guard("sampler"):
                    frame = next(frames, None)
                if frame is None:
                    return
                if is_finished:
                    raise ContractError("sampler", "a frame follows the one at t = 0, which must be the last")
                yield self._checked(frame, len(indices))
                is_finished = frame.t == 0

    def batches(
        self, indices: range, seed: int, progress: Callable[[int], None] = lambda _more: None
    ) -> Iterator[Tensor]:
        """Yield uint8 [B, C, H, W] on the CPU, `images_per_batch` at a time, in the order of `indices`.

        `progress` is called with 1 after each sampling step.
        """
        size = min(self.images_per_batch, max(1, len(indices)))
        for start in range(0, len(indices), size):
            finished = False
            batch = indices[start : start + size]
            for number, frame in enumerate(self.frames(self._filled_up(batch, size), seed)):
                if number:  # the first frame is the noise itself
                    progress(1)
                if frame.t == 0:
                    finished = True
                    yield to_uint8(frame.x[: len(batch)])
            if not finished:
                raise ContractError("sampler", "it must end with a frame at t = 0, the finished image")

    def images(self, indices: range, seed: int, progress: Callable[[int], None] = lambda _more: None) -> Tensor:
        """Generate uint8 [len(indices), C, H, W] on the CPU."""
        return torch.cat(list(self.batches(indices, seed, progress)))

    def sampling_steps(self, count: int) -> int:
        """Return the number of sampling steps for `count` images, over all batches."""
        return self._batch_count(count) * self.steps

    def network_calls(self, count: int) -> int:
        """Return the number of network calls for `count` images, over all batches."""
        return self._batch_count(count) * self.sampler.network_calls(self.steps)

    def seconds_per_call(self) -> float:
        """Return the seconds of a network call for one batch, measured after the first calls, which are slower."""
        images = self.images_per_batch
        x = torch.zeros((images, *self.image_shape), device=self.runtime.device)
        denoiser = self._denoiser(range(images))
        with self._evaluating(), self.runtime.settings(), torch.inference_mode():
            for _ in range(_FIRST_CALLS if self.runtime.device.type == "cuda" else 1):
                denoiser(x, 0).x0.sum().item()
            started = time.perf_counter()
            denoiser(x, 0).x0.sum().item()
        return time.perf_counter() - started

    @functools.cached_property
    def _eager_network(self) -> EagerNetwork:
        return EagerNetwork(self.network, self.image_shape, self.runtime, self.guard)

    @functools.cached_property
    def _network_calls(self) -> NetworkCalls:
        return NetworkCalls(self._eager_network, self.not_captured)

    def _call_once(self, images: int) -> None:
        """Evaluate the network once for this number of images, without a CUDA graph."""
        x = torch.zeros((images, *self.image_shape), device=self.runtime.device)
        with self._evaluating(), self.runtime.settings(), torch.inference_mode():
            self._denoiser(range(images), self._eager_network)(x, 0)

    def _filled_up(self, batch: range, size: int) -> Sequence[int]:
        """Repeat the last index until there are `size` of them; on a CPU, return the batch as it is."""
        if self.runtime.device.type == "cpu" or len(batch) == size:
            return batch
        return [*batch, *[batch[-1]] * (size - len(batch))]

    def _denoiser(self, indices: Sequence[int], network: EagerNetwork | None = None) -> Denoiser:
        """Return the denoiser of one batch. `network` is called instead of the programs."""
        predict = network or self._network_calls
        if not self.num_classes:
            return Denoiser(predict, self.process, known=self.known)
        classes = [index % self.num_classes if self.chosen_class is None else self.chosen_class for index in indices]
        guidance = Guidance(self.guidance, null_label=self.num_classes) if self.guidance != 1 else None
        labels = torch.tensor(classes, device=self.runtime.device)
        return Denoiser(predict, self.process, labels, guidance, self.known)

    def _checked(self, frame: SamplerState, count: int) -> SamplerState:
        """Raise ContractError unless `frame` is a SamplerState of `count` images."""
        if not hasattr(frame, "t") or not isinstance(getattr(frame, "x", None), Tensor):
            raise ContractError("sampler", f"it must yield a SamplerState (t, x, x0_hat), not {describe(frame)}")
        if tuple(frame.x.shape) != (count, *self.image_shape) or not frame.x.is_floating_point():
            wanted = [count, *self.image_shape]
            raise ContractError("sampler", f"x must be float {wanted}, and is {describe(frame.x)} at t = {frame.t}")
        if frame.x.is_meta:
            raise ContractError("sampler", f"x must have values, and is on the device meta at t = {frame.t}")
        return frame

    def _batch_count(self, count: int) -> int:
        return -(-count // self.images_per_batch)

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Put the network in evaluation mode, and restore its mode afterwards."""
        was_training = self.network.training
        self.network.eval()
        try:
            yield
        finally:
            self.network.train(was_training)


def _iterator(frames: Iterable[SamplerState]) -> Iterator[SamplerState]:
    """Raise ContractError if `frames` is not iterable."""
    if not isinstance(frames, Iterable):
        raise ContractError("sampler", f"it must yield SamplerState (t, x, x0_hat), and returned {describe(frames)}")
    return iter(frames)
