"""What a component of each kind must do, in shapes and units.

One Protocol per kind. A component is any callable target that takes its validated config and the runtime objects named
in `RUNTIME` and returns an object with the members below; inheritance is never asked for, and the conformance kit in
`ddpmkit.testing` fixes the behaviour. This module knows no component by name and imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ddpmkit.diffusion import Denoiser

__all__ = [
    "KINDS",
    "RUNTIME",
    "Better",
    "Dataset",
    "ImageShape",
    "InspectableDataset",
    "Inspection",
    "Loss",
    "Metric",
    "MetricProtocol",
    "NoiseSource",
    "Picture",
    "Prediction",
    "RunEnded",
    "RunStarted",
    "Sampler",
    "SamplerState",
    "Schedule",
    "Scores",
    "StepRecord",
    "Tracker",
    "VarianceLoss",
]

Prediction = Literal["epsilon", "x0", "v"]
"""What the network is trained to answer."""

Better = Literal["lower", "higher", "neither"]
"""Which way a score improves; `neither` is for one that says something of a run and ranks none."""

RUNTIME: Mapping[str, tuple[str, ...]] = {
    "schedule": ("timesteps",),
    "backbone": ("image_shape", "num_classes", "out_channels"),
    "loss": ("prediction",),
    "sampler": (),
    "metric": ("device",),
    "dataset": ("split", "classes", "image_shape"),
    "tracker": ("run_folder",),
}
"""Keyword arguments that the core passes to `target(config, ...)`, by kind. A config may not use these names."""

KINDS: tuple[str, ...] = tuple(RUNTIME)


class ImageShape(NamedTuple):
    """Channels (1 or 3; what a backbone sees may have twice as many), height and width in pixels."""

    channels: int
    height: int
    width: int


class Schedule(Protocol):
    """How fast the signal fades. Built with `timesteps: int` (T)."""

    def alphas_cumprod(self) -> Tensor:
        """alpha_bar at t = 0 .. T-1: float64 [T], strictly decreasing, between 0 and 1, neither included.

        alpha_bar is the share of the clean image's variance left in x_t: Ho et al. (2020), eq. 4. It starts below 1:
        t = 0 is noised a little already. Its last value may be 0, which needs prediction x0 or v.
        """
        ...


class Backbone(Protocol):
    """The network: a `torch.nn.Module` built with `image_shape`, `num_classes` (0: unconditional), `out_channels`."""

    def __call__(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        """x float [B, C, H, W], t int64 [B] in 0 .. T-1, label int64 [B] or None -> [B, out_channels, H, W].

        C is `image_shape.channels`, and says nothing of `out_channels`: under `diffusion.self_conditioning` an estimate
        of the clean image lies behind the noisy one, and C is twice the image's. Clean images lie in [-1, 1]. Any H and
        W of 8 or more must work. Labels are 0 .. num_classes; the last of them, num_classes itself, says that the class
        is not told. None is the same for all images.
        """
        ...


class Loss(Protocol):
    """How wrong a prediction is. Built with `prediction`, the parameterisation it will see."""

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        """prediction and target float [B, C, H, W], alpha_bar float [B] at each sample's t -> loss of each sample [B].

        Weighting by timestep is the loss's own affair: alpha_bar / (1 - alpha_bar) is the signal-to-noise ratio.
        """
        ...


class VarianceLoss(Loss, Protocol):
    """A loss that teaches the network the variance of a step besides: its component provides `learned-variance`.

    The network then answers in twice the channels; the second half says where between two bounds the variance lies.
    """

    def with_bound(self, losses: Tensor, bound: Tensor) -> Tensor:
        """The losses [B] of `__call__`, and the variational bound [B] in bits a number -> losses [B]."""
        ...


class NoiseSource(Protocol):
    """Standard normal noise that is a function of (seed, image index, draw), whatever the batch."""

    def __call__(self, draw: int) -> Tensor:
        """Float32 [B, C, H, W]. Draw 0 is the starting noise x_T; a sampler numbers its further draws as it likes."""
        ...


class SamplerState(NamedTuple):
    """One frame of the reverse process.

    `t` counts the noising steps still in `x`, as in Ho et al. (2020): T is pure noise, 0 the finished image.
    `x` and `x0_hat` are float [B, C, H, W]; `x0_hat` is the clean image as estimated at `x` (at t = 0: `x` itself).
    """

    t: int
    x: Tensor
    x0_hat: Tensor


class Sampler(Protocol):
    """The reverse process, from noise to image. Built with its config alone."""

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        """Yield frames from (T, x_T, ...) down to (0, x_0, x_0): one before each step, and the finished image.

        `steps` is 1 .. T; InputError when it is not. All randomness comes from `noise`.
        """
        ...

    def network_calls(self, steps: int) -> int:
        """How many times `sample` asks the denoiser for one batch."""
        ...


@dataclass(frozen=True)
class MetricProtocol:
    """The rules a score was taken by. Scores under unlike rules are never ranked against each other."""

    name: str
    num_samples: int
    """Generated images, unless the recipe says otherwise."""
    weights: Literal["ema", "raw"]
    """Which weights draw the samples; "ema" is the average that `sampler.weights` names, where it names one."""
    comparable: bool
    """False where the rules themselves make a score comparable with nothing else."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What else a reader must know: reference, resize, extractor and its SHA-256. Printed beside every score."""


@runtime_checkable
class Metric(Protocol):
    """A distance or a quality of generated images. Built with `device`.

    A target that cannot work here raises `ComponentUnavailable` while it is built.
    """

    @property
    def better(self) -> Mapping[str, Better]:
        """Which way each score improves."""
        ...

    @property
    def protocol(self) -> MetricProtocol:
        """The rules of this measurement."""
        ...

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] of the reference -> float64 state of this batch."""
        ...

    def measure_generated(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 [B, C, H, W] of samples -> float64 state of this batch."""
        ...

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state of both batches together; order must not matter beyond rounding."""
        ...

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        """Scores by name, from the merged states."""
        ...


class Dataset(Protocol):
    """Pictures by index. Built with `split` ("train" or "val"), `classes` (None: all) and `image_shape`.

    Order, batches, flips and scaling are the core's affair. A split that is not there raises `InputError`, except
    "val", for which an empty dataset is returned.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that `labels` number, in order."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of the content: equal exactly when the same images come in the same order."""
        ...

    def __len__(self) -> int: ...

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 [B, C, H, W] in `image_shape`."""
        ...

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [B], into `class_names`."""
        ...


@dataclass(frozen=True)
class Inspection:
    """What a dataset found when it looked at all of its files."""

    counts: Mapping[str, Mapping[str, int]]
    """Whole pictures by split and class. A split that is not there is left out."""
    bad: Mapping[Path, str]
    """Each file that cannot be used, and why."""
    alike: tuple[tuple[Path, ...], ...] = ()
    """Groups of files with the same content."""
    notes: tuple[str, ...] = ()
    """What else the owner of the files should know, in sentences."""


class InspectableDataset(Protocol):
    """What the target of a dataset may offer besides: a look at all of its files, for `ddpmkit data check`."""

    @classmethod
    def inspect(
        cls,
        config: Any,
        *,
        classes: tuple[str, ...] | None,
        image_shape: ImageShape,
        progress: Callable[[int, int], None],
    ) -> Inspection:
        """Read every file of every split, whatever was found before; nothing is written.

        `progress` is told how many files were read, and of how many. Raises `InputError` where there are none at all.
        """
        ...


@dataclass(frozen=True)
class RunStarted:
    """A run begins, or goes on."""

    name: str
    folder: Path
    recipe: Mapping[str, Any]
    """The resolved recipe, as plain TOML data."""
    parameters: int
    first_step: int
    """0 for a new run; the step of the checkpoint for one that goes on."""
    last_step: int


@dataclass(frozen=True)
class StepRecord:
    """What is known after optimizer step `step` (counted from 1)."""

    step: int
    loss: float
    loss_by_quarter: tuple[float | None, ...]
    """Mean loss of the samples whose t fell in each quarter of the timesteps, since the last record; None: none did."""
    gradient_norm: float
    learning_rate: float
    images_per_second: float
    validation_loss: float | None = None


@dataclass(frozen=True)
class Picture:
    """A picture written to the run folder."""

    step: int
    name: Literal["samples", "forward", "reverse"]
    path: Path


@dataclass(frozen=True)
class Scores:
    """One evaluation's outcome; `floor` is the same metric between two halves of the real images."""

    step: int
    metric: str
    protocol: str
    comparable: bool
    num_samples: int
    num_reference: int
    values: Mapping[str, float]
    floor: Mapping[str, float]
    better: Mapping[str, Better]
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunEnded:
    """A run is over: finished, stopped (by the user), or failed."""

    step: int
    status: Literal["finished", "stopped", "failed"]
    problems: tuple[str, ...] = ()
    """What could not be made on the way (a score, a picture), though the run went on."""


class Tracker(Protocol):
    """Someone who is told. One that raises is reported and switched off; the run goes on."""

    def run_started(self, event: RunStarted) -> None:
        """A run begins, or goes on."""
        ...

    def step(self, event: StepRecord) -> None:
        """A record of training, every `train.log_every` steps."""
        ...

    def picture(self, event: Picture) -> None:
        """A picture was written."""
        ...

    def scores(self, event: Scores) -> None:
        """An evaluation came to its end."""
        ...

    def run_ended(self, event: RunEnded) -> None:
        """Nothing more will come."""
        ...
