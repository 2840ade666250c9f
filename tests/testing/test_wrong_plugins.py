"""Wrong plugins, with faults that authors make, and the one check that each fails.

For each kind there is a correct plugin. The wrong ones change one thing in it.
"""

import itertools
import os
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from ddpmkit.contracts import KINDS, ImageShape, MetricProtocol, SamplerState
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.testing import Outcome, conformance_checks
from ddpmkit.testing.conformance import rules

HERE = FoundPlugin("acme.plugin", "", "ddpmkit-acme", "1.0")


class Power:
    """The correct schedule."""

    def __init__(self, config: ComponentConfig, *, timesteps: int) -> None:
        self.timesteps = timesteps

    def alphas_cumprod(self) -> Tensor:
        u = torch.arange(1, self.timesteps + 1, dtype=torch.float64) / (self.timesteps + 1)
        return 1 - u**2


class Single(Power):
    def alphas_cumprod(self) -> Tensor:
        return super().alphas_cumprod().float()


class FromTheCleanImage(Power):
    def alphas_cumprod(self) -> Tensor:
        return 1 - torch.arange(self.timesteps, dtype=torch.float64) / (self.timesteps + 1)


class Unclipped(Power):
    def alphas_cumprod(self) -> Tensor:
        return torch.linspace(1.0, -0.1, self.timesteps + 1, dtype=torch.float64)[1:]


class Reversed(Power):
    def alphas_cumprod(self) -> Tensor:
        return super().alphas_cumprod().flip(0)


class FlatAtTheEnd(Power):
    def alphas_cumprod(self) -> Tensor:
        return super().alphas_cumprod().clamp(min=0.1)


class Creeping(Power):
    def alphas_cumprod(self) -> Tensor:
        return 0.9 - 1e-12 * torch.arange(self.timesteps, dtype=torch.float64)


class TwoAtLeast(Power):
    def alphas_cumprod(self) -> Tensor:
        return torch.linspace(0.99, 0.01, max(self.timesteps, 2), dtype=torch.float64)


class UnbuildableForOne(Power):
    def __init__(self, config: ComponentConfig, *, timesteps: int) -> None:
        super().__init__(config, timesteps=timesteps)
        self.step = 1 / (timesteps - 1)


class Small(nn.Module):
    """The correct backbone."""

    def __init__(
        self, config: ComponentConfig, *, image_shape: ImageShape, num_classes: int, out_channels: int
    ) -> None:
        super().__init__()
        self.null_label = num_classes
        self.first = nn.Conv2d(image_shape.channels, 8, 3, padding=1)
        self.time = nn.Linear(1, 8)
        self.label = nn.Embedding(num_classes + 1, 8)
        self.last = nn.Conv2d(8, out_channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        condition = self.of_time(t) + self.of_label(t, label)
        return self.last(torch.tanh(self.first(x) + condition[:, :, None, None]))

    def of_time(self, t: Tensor) -> Tensor:
        return self.time(t[:, None] / 50)

    def of_label(self, t: Tensor, label: Tensor | None) -> Tensor:
        return self.label(torch.full_like(t, self.null_label) if label is None else label)


class CroppedByNothing(Small):
    """It pads to a multiple of 16, and crops by -0 if no padding is needed."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        down, right = (-size % 16 for size in x.shape[2:])
        return super().forward(nn.functional.pad(x, (0, right, 0, down)), t, label)[:, :, :-down, :-right]


class Halving(Small):
    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        halved = nn.functional.avg_pool2d(super().forward(x, t, label), 2)
        return nn.functional.interpolate(halved, scale_factor=2)


class AsManyAsItGot(Small):
    def __init__(self, config: ComponentConfig, *, image_shape: ImageShape, **runtime: Any) -> None:
        super().__init__(config, image_shape=image_shape, **{**runtime, "out_channels": image_shape.channels})


class CentredOverTheBatch(Small):
    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return super().forward(x - x.mean(dim=0), t, label)


class BatchNormalised(Small):
    def __init__(self, config: ComponentConfig, *, image_shape: ImageShape, **runtime: Any) -> None:
        super().__init__(config, image_shape=image_shape, **runtime)
        self.norm = nn.BatchNorm2d(image_shape.channels)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return super().forward(self.norm(x), t, label)


class Timeless(Small):
    def __init__(self, config: ComponentConfig, **runtime: Any) -> None:
        super().__init__(config, **runtime)
        del self.time

    def of_time(self, t: Tensor) -> Tensor:
        return torch.zeros(len(t), 8)


class Unlabelled(Small):
    """It declares class labels and ignores them."""

    def __init__(self, config: ComponentConfig, **runtime: Any) -> None:
        super().__init__(config, **runtime)
        del self.label

    def of_label(self, t: Tensor, label: Tensor | None) -> Tensor:
        return torch.zeros(len(t), 8)


class LastClassForNull(Small):
    def of_label(self, t: Tensor, label: Tensor | None) -> Tensor:
        label = torch.full_like(t, self.null_label) if label is None else label
        return self.label(label.clamp(max=max(self.null_label - 1, 0)))


class NothingForNone(Small):
    def of_label(self, t: Tensor, label: Tensor | None) -> Tensor:
        return torch.zeros(len(t), 8) if label is None else self.label(label)


class OneRowShort(Small):
    """It does not declare class labels, and its embedding has no row for the null label."""

    def __init__(self, config: ComponentConfig, *, num_classes: int, **runtime: Any) -> None:
        super().__init__(config, num_classes=max(num_classes - 1, 0), **runtime)


class NeverCalled(Small):
    def __init__(self, config: ComponentConfig, **runtime: Any) -> None:
        super().__init__(config, **runtime)
        self.spare = nn.Linear(2, 2)


class ThrownAway(NeverCalled):
    """Its second layer is in the graph, but its output is multiplied by 0."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return super().forward(x, t, label) + 0 * self.spare(x.new_ones(1, 2)).sum()


class SeedingItself(Small):
    def __init__(self, config: ComponentConfig, **runtime: Any) -> None:
        torch.manual_seed(0)
        super().__init__(config, **runtime)


class Unregistered(Small):
    """Random Fourier features that are not part of the state_dict."""

    def __init__(self, config: ComponentConfig, **runtime: Any) -> None:
        super().__init__(config, **runtime)
        self.frequencies = torch.randn(8)

    def of_time(self, t: Tensor) -> Tensor:
        return super().of_time(t) * torch.cos(self.frequencies)


class HalvingItsInput(Small):
    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return super().forward(x.mul_(0.5), t, label)


class Squared:
    """The correct loss."""

    def __init__(self, config: ComponentConfig, *, prediction: str) -> None: ...

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        return (prediction - target).square().flatten(1).mean(dim=1)


class MeanOfTheBatch(Squared):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        return super().__call__(prediction, target, alpha_bar).mean()


class WithAConstant(Squared):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        return super().__call__(prediction, target, alpha_bar) + 0.1


class Cancelling(Squared):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        return (prediction - target).flatten(1).mean(dim=1)


class ZeroAtLowSignal(Squared):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        return super().__call__(prediction, target, alpha_bar) * (alpha_bar > 0.1)


class Flat(Squared):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        losses = super().__call__(prediction, target, alpha_bar)
        return losses / (losses.detach() + 1e-12)


class WeightedByTheOthers(Squared):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        return super().__call__(prediction, target, alpha_bar) * alpha_bar / alpha_bar.mean().clamp(min=1e-9)


class DividedBySignal(Squared):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        return super().__call__(prediction, target, alpha_bar) / alpha_bar


class Detached(Squared):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        return super().__call__(prediction.detach(), target, alpha_bar)


class SteepAtZero(Squared):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        return super().__call__(prediction, target, alpha_bar).sqrt()


class ChangingItsInput(Squared):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        alpha_bar.clamp_(min=0.1)
        return super().__call__(prediction, target, alpha_bar)


class BoundOfTheBatch(Squared):
    def with_bound(self, losses: Tensor, bound: Tensor) -> Tensor:
        return losses + 0.001 * bound.mean()


class Chain:
    """The correct sampler: ancestral."""

    def __init__(self, config: ComponentConfig) -> None: ...

    def sample(self, denoiser: Any, noise: Any, steps: int) -> Iterator[SamplerState]:
        x = noise(0)
        times = denoiser.process.sampling_timesteps(steps)
        for step, (t, s) in enumerate(itertools.pairwise([*times, -1]), start=1):
            x0_hat, eps, _ = denoiser(x, t)
            yield SamplerState(self.time_of(t), x, self.x0_hat_of(x0_hat, eps))
            x = denoiser.process.p_sample(x0_hat, x, t, noise(self.noise_index(step)), s)
        x = self.finished(x)
        yield SamplerState(0, x, x)

    def time_of(self, t: int) -> int:
        return t + 1

    def x0_hat_of(self, x0_hat: Tensor, eps: Tensor) -> Tensor:
        return x0_hat

    def noise_index(self, step: int) -> int:
        return step

    def finished(self, x: Tensor) -> Tensor:
        return x

    def network_calls(self, steps: int) -> int:
        return steps


class OffByOne(Chain):
    def time_of(self, t: int) -> int:
        return t


class TwoStepsBefore(Chain):
    def sample(self, denoiser: Any, noise: Any, steps: int) -> Iterator[SamplerState]:
        _ = 1 / (steps - 2)
        return super().sample(denoiser, noise, steps)


class AnyNumber(Chain):
    def sample(self, denoiser: Any, noise: Any, steps: int) -> Iterator[SamplerState]:
        return super().sample(denoiser, noise, min(max(steps, 1), denoiser.process.timesteps))


class Miscounting(Chain):
    def network_calls(self, steps: int) -> int:
        return steps + 1


class LookingAtTheOthers(Chain):
    def finished(self, x: Tensor) -> Tensor:
        return x + 0.3 * (x.mean(dim=0) - x.mean())


class OneDraw(Chain):
    """The same noise at every step."""

    def noise_index(self, step: int) -> int:
        return 1


class NoisyAtTheEnd(Chain):
    def finished(self, x: Tensor) -> Tensor:
        return x + 0.03 * torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(0))


class ShowingNoise(Chain):
    def x0_hat_of(self, x0_hat: Tensor, eps: Tensor) -> Tensor:
        return eps


class Roughness:
    """The correct metric: the mean difference of neighbouring pixels."""

    better: ClassVar = {"distance": "lower"}
    protocol = MetricProtocol("plain", num_samples=8, weights="ema", comparable=True, facts={"reference": "training"})
    dtype = torch.float64

    def __init__(self, config: ComponentConfig, *, device: torch.device) -> None: ...

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        rough = images.to(self.dtype).diff(dim=-1).abs().mean(dim=(1, 2, 3))
        return {"sum": rough.sum(), "count": torch.tensor(len(images), dtype=self.dtype), "first": rough[0]}

    def measure_generated(self, images: Tensor) -> dict[str, Tensor]:
        return self.measure_real(images)

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sum": first["sum"] + second["sum"], "count": first["count"] + second["count"], "first": first["first"]}

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        first, second = (float(state["sum"] / state["count"]) for state in (real, generated))
        return {"distance": abs(first - second)}


class Short(Roughness):
    dtype = torch.float32


class ColourOnly(Roughness):
    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        red, green, blue = images.double().unbind(1)
        return super().measure_real(torch.stack([red, green, blue], dim=1))


class MeanOfMeans(Roughness):
    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        means = [state["sum"] / state["count"] for state in (first, second)]
        return {"sum": (means[0] + means[1]) / 2, "count": torch.ones((), dtype=torch.float64), "first": first["first"]}


class TheFirstCountsMore(Roughness):
    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        return {"distance": super().scores(real, generated)["distance"] + 0.01 * float(generated["first"])}


class AddingInPlace(Roughness):
    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: first[name].add_(second[name]) if name != "first" else first[name] for name in first}


class ChangingImages(Roughness):
    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        return super().measure_real(images.clamp_(min=10))


class WrongWay(Roughness):
    better: ClassVar = {"distance": "higher"}


class Nameless(Roughness):
    better: ClassVar = {}


class OfNoSamples(Roughness):
    protocol = MetricProtocol("plain", num_samples=0, weights="ema", comparable=True)


class Greys:
    """The correct dataset: constant images of two classes."""

    def __init__(self, config: ComponentConfig, *, split: str, classes: Any, image_shape: ImageShape) -> None:
        self.class_names = tuple(classes or ("dark", "light"))
        self.image_shape = image_shape
        self.first = 0 if split == "train" else 100
        self.fingerprint = f"{split} {self.class_names} {image_shape}"

    def __len__(self) -> int:
        return 3 * len(self.class_names)

    def images(self, indices: Any) -> Any:
        greys = (indices + self.first).astype(np.uint8)[:, None, None, None]
        return np.broadcast_to(greys, (len(indices), *self.image_shape)).copy()

    def labels(self, indices: Any) -> Any:
        return indices // 3


class Scaled(Greys):
    def images(self, indices: Any) -> Any:
        return super().images(indices) / np.float32(255)


class NumberedFromOne(Greys):
    def labels(self, indices: Any) -> Any:
        return super().labels(indices) + 1


class AlwaysAll(Greys):
    def __init__(self, config: ComponentConfig, *, classes: Any, **runtime: Any) -> None:
        super().__init__(config, classes=None, **runtime)


class Streaming(Greys):
    seen = 0

    def images(self, indices: Any) -> Any:
        self.seen += len(indices)
        return super().images(indices + self.seen)


class ByAddress(Greys):
    def __init__(self, config: ComponentConfig, **runtime: Any) -> None:
        super().__init__(config, **runtime)
        self.fingerprint = str(id(self))
        BUILT.append(self)


BUILT: list[Any] = []
"""Keeps objects alive, so that their addresses are not reused."""


class OfNoSize(Greys):
    def __init__(self, config: ComponentConfig, *, split: str, **runtime: Any) -> None:
        super().__init__(config, split=split, **runtime)
        self.fingerprint = f"{split} {self.class_names}"


class OneSplit(Greys):
    def __init__(self, config: ComponentConfig, *, split: str, **runtime: Any) -> None:
        super().__init__(config, split="train", **runtime)


class OneSplitUnderTwoNames(Greys):
    def __init__(self, config: ComponentConfig, **runtime: Any) -> None:
        super().__init__(config, **runtime)
        self.first = 0


class Diary:
    """The correct tracker: one line per event."""

    def __init__(self, config: ComponentConfig, *, run_folder: Path) -> None:
        self.path = run_folder / "diary.txt"

    def write(self, event: Any) -> None:
        with self.path.open("a") as file:
            file.write(f"{event}\n")

    run_started = step = picture = scores = run_ended = write


class NoImages(Diary):
    picture = None  # type: ignore[assignment]


class NewEachTime(Diary):
    def __init__(self, config: ComponentConfig, *, run_folder: Path) -> None:
        super().__init__(config, run_folder=run_folder)
        self.path.open("x").close()


class AfterAStep(Diary):
    def step(self, event: Any) -> None:  # type: ignore[override]
        self.last = event

    def run_ended(self, event: Any) -> None:  # type: ignore[override]
        self.write(self.last)


class Formatting(Diary):
    def step(self, event: Any) -> None:  # type: ignore[override]
        self.write(f"{event.validation_loss:.3f}")


class TakingOut(Diary):
    def run_started(self, event: Any) -> None:  # type: ignore[override]
        event.recipe.pop("train")


class Drawing(Power):
    def alphas_cumprod(self) -> Tensor:
        torch.rand(())
        return super().alphas_cumprod()


class Seeding(Power):
    def __init__(self, config: ComponentConfig, **runtime: Any) -> None:
        super().__init__(config, **runtime)
        np.random.seed(0)


class Shuffling(Power):
    def alphas_cumprod(self) -> Tensor:
        random.shuffle([1, 2, 3])
        return super().alphas_cumprod()


class Unseeded(Power):
    def alphas_cumprod(self) -> Tensor:
        return super().alphas_cumprod() - 1e-9 * np.random.default_rng().random()


class Printing(Power):
    def alphas_cumprod(self) -> Tensor:
        print("alpha_bar", self.timesteps)  # noqa: T201 -- the fault
        return super().alphas_cumprod()


class Moving(Power):
    def alphas_cumprod(self) -> Tensor:
        os.chdir(tempfile.gettempdir())
        return super().alphas_cumprod()


class Undescribed(ComponentConfig):
    power: float = 2.0


class Claiming(ComponentConfig):
    batch_size: int = 1
    """Images in one batch."""


class Growing(ComponentConfig):
    power: float = 2.0
    """Doubled when it is read."""

    @field_validator("power")
    @classmethod
    def double(cls, value: float) -> float:
        return 2 * value


class OutOfItsOwnRange(ComponentConfig):
    depth: float = Field(default=3.0, lt=1)
    """How deep."""
    folder: Path = Path("waves")
    """A default that pydantic's `validate_default` would reject."""


@dataclass(frozen=True)
class Wrong:
    target: type
    kind: str
    caught_by: str
    provides: tuple[str, ...] = ()
    config: type | None = None
    plugin: FoundPlugin = HERE

    def __str__(self) -> str:
        return f"{self.caught_by}-{self.target.__name__}"


LABELLED, LEARNED = ("class-labels",), ("learned-variance",)
RIGHT = {
    "schedule": Power, "backbone": Small, "loss": Squared, "sampler": Chain,
    "metric": Roughness, "dataset": Greys, "tracker": Diary,
}  # fmt: skip
WRONG = [
    Wrong(Single, "schedule", "schedule.float64"),
    Wrong(TwoAtLeast, "schedule", "schedule.any-timesteps"),
    Wrong(UnbuildableForOne, "schedule", "schedule.any-timesteps"),
    Wrong(FromTheCleanImage, "schedule", "schedule.range"),
    Wrong(Unclipped, "schedule", "schedule.range"),
    Wrong(Reversed, "schedule", "schedule.decreasing"),
    Wrong(FlatAtTheEnd, "schedule", "schedule.decreasing"),
    Wrong(Creeping, "schedule", "schedule.snr"),
    Wrong(CroppedByNothing, "backbone", "backbone.shape", LABELLED),
    Wrong(Halving, "backbone", "backbone.odd-sizes", LABELLED),
    Wrong(AsManyAsItGot, "backbone", "backbone.channels", LABELLED),
    Wrong(CentredOverTheBatch, "backbone", "backbone.independent", LABELLED),
    Wrong(BatchNormalised, "backbone", "backbone.independent", LABELLED),
    Wrong(Timeless, "backbone", "backbone.time", LABELLED),
    Wrong(OneRowShort, "backbone", "backbone.labels-taken"),
    Wrong(Unlabelled, "backbone", "backbone.labels", LABELLED),
    Wrong(LastClassForNull, "backbone", "backbone.label-not-told", LABELLED),
    Wrong(NothingForNone, "backbone", "backbone.label-not-told", LABELLED),
    Wrong(NeverCalled, "backbone", "backbone.gradients", LABELLED),
    Wrong(ThrownAway, "backbone", "backbone.gradients", LABELLED),
    Wrong(SeedingItself, "backbone", "backbone.seed", LABELLED),
    Wrong(Unregistered, "backbone", "backbone.state", LABELLED),
    Wrong(HalvingItsInput, "backbone", "backbone.input-kept", LABELLED),
    Wrong(MeanOfTheBatch, "loss", "loss.per-sample"),
    Wrong(WithAConstant, "loss", "loss.zero-at-perfect"),
    Wrong(Cancelling, "loss", "loss.positive"),
    Wrong(ZeroAtLowSignal, "loss", "loss.positive"),
    Wrong(Flat, "loss", "loss.grows"),
    Wrong(WeightedByTheOthers, "loss", "loss.independent"),
    Wrong(DividedBySignal, "loss", "loss.finite"),
    Wrong(Detached, "loss", "loss.gradient"),
    Wrong(SteepAtZero, "loss", "loss.gradient"),
    Wrong(ChangingItsInput, "loss", "loss.input-kept"),
    Wrong(BoundOfTheBatch, "loss", "loss.with-bound", LEARNED),
    Wrong(OffByOne, "sampler", "sampler.frames"),
    Wrong(TwoStepsBefore, "sampler", "sampler.any-steps"),
    Wrong(AnyNumber, "sampler", "sampler.steps-refused"),
    Wrong(Miscounting, "sampler", "sampler.calls"),
    Wrong(LookingAtTheOthers, "sampler", "sampler.independent"),
    Wrong(OneDraw, "sampler", "sampler.gaussian"),
    Wrong(NoisyAtTheEnd, "sampler", "sampler.no-noise-last"),
    Wrong(ShowingNoise, "sampler", "sampler.x0-hat"),
    Wrong(Short, "metric", "metric.float64"),
    Wrong(ColourOnly, "metric", "metric.grayscale"),
    Wrong(MeanOfMeans, "metric", "metric.mergeable"),
    Wrong(TheFirstCountsMore, "metric", "metric.order-invariant"),
    Wrong(AddingInPlace, "metric", "metric.states-kept"),
    Wrong(ChangingImages, "metric", "metric.input-kept"),
    Wrong(Nameless, "metric", "metric.better"),
    Wrong(OfNoSamples, "metric", "metric.protocol"),
    Wrong(WrongWay, "metric", "metric.noise"),
    Wrong(Scaled, "dataset", "dataset.pictures"),
    Wrong(NumberedFromOne, "dataset", "dataset.labels"),
    Wrong(AlwaysAll, "dataset", "dataset.classes"),
    Wrong(Streaming, "dataset", "dataset.by-index"),
    Wrong(ByAddress, "dataset", "dataset.fingerprint"),
    Wrong(OfNoSize, "dataset", "dataset.fingerprint"),
    Wrong(OneSplit, "dataset", "dataset.held-out"),
    Wrong(OneSplitUnderTwoNames, "dataset", "dataset.held-out"),
    Wrong(NoImages, "tracker", "tracker.events"),
    Wrong(NewEachTime, "tracker", "tracker.resume"),
    Wrong(AfterAStep, "tracker", "tracker.early-end"),
    Wrong(Formatting, "tracker", "tracker.odd-numbers"),
    Wrong(TakingOut, "tracker", "tracker.events-kept"),
    Wrong(Drawing, "schedule", "manners.no-global-rng"),
    Wrong(Seeding, "schedule", "manners.no-global-rng"),
    Wrong(Shuffling, "schedule", "manners.no-global-rng"),
    Wrong(Unseeded, "schedule", "manners.built-twice"),
    Wrong(Printing, "schedule", "manners.silent"),
    Wrong(Moving, "schedule", "manners.settings-kept"),
    Wrong(Power, "schedule", "manners.fields-described", config=Undescribed),
    Wrong(Chain, "sampler", "manners.keys-free", config=Claiming),
    Wrong(Power, "schedule", "manners.config-as-toml", config=Growing),
    Wrong(Power, "schedule", "manners.config-as-toml", config=OutOfItsOwnRange),
    Wrong(
        Power,
        "schedule",
        "manners.manifest-without-torch",
        plugin=FoundPlugin("acme.heavy", "ddpmkit.diffusion", "ddpmkit-acme", "1.0"),
    ),
]
"""Each wrong plugin, and the check that it fails."""


def registered(wrong: Wrong) -> RegisteredComponent:
    config = {"config": f"{__name__}:{wrong.config.__name__}"} if wrong.config else {}
    component = Component(
        kind=wrong.kind,
        name="plugin",
        target=f"{__name__}:{wrong.target.__name__}",
        summary="wrong",
        provides=wrong.provides,
        **config,
    )
    return RegisteredComponent(component, wrong.plugin)


def outcomes(wrong: Wrong) -> list[Outcome]:
    """The check of the manifest starts a process, so it runs only for the plugin that fails it."""
    slow = "manners.manifest-without-torch"
    checks = conformance_checks(registered(wrong))
    return [check.outcome() for check in checks if check.id != slow or wrong.caught_by == slow]


@pytest.mark.parametrize("kind", KINDS)
def test_a_correct_plugin_passes_every_check(kind: str) -> None:
    provides = {"backbone": LABELLED}.get(kind, ())
    found = outcomes(Wrong(RIGHT[kind], kind, "manners.manifest-without-torch", provides))
    assert [str(outcome) for outcome in found if not outcome.good] == []


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_wrong_plugin_fails_exactly_the_check_for_its_fault(
    wrong: Wrong, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # one plugin changes the working directory
    seen = {outcome.rule.id: outcome.seen for outcome in outcomes(wrong) if outcome.status == "failed"}
    assert list(seen) == [wrong.caught_by], seen
    assert seen[wrong.caught_by].strip()


class Hanging(Diary):
    def run_ended(self, event: Any) -> None:  # type: ignore[override]
        time.sleep(60)


def test_only_one_check_waits_for_a_tracker_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddpmkit.testing.tracker._TIMEOUT", 1.5)
    began = time.monotonic()
    found = outcomes(Wrong(Hanging, "tracker", "tracker.events"))
    assert time.monotonic() - began < 20
    (failed,) = (outcome for outcome in found if outcome.status == "failed")
    assert failed.rule.id == "tracker.events"
    assert "run_ended(" in failed.seen
    assert ": no answer within 1.5 seconds" in failed.seen
    others = {outcome.status for outcome in found if outcome.rule.id.startswith("tracker.") and outcome is not failed}
    assert others == {"not checked"}


def test_a_default_outside_its_range_is_reported_with_the_range() -> None:
    wrong = Wrong(Power, "schedule", "manners.config-as-toml", config=OutOfItsOwnRange)
    (failed,) = (outcome for outcome in outcomes(wrong) if not outcome.good)
    assert failed.seen == "the default of `depth` must be a number below 1, but is 3.0"


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_fails_for_a_wrong_plugin(kind: str) -> None:
    caught = {wrong.caught_by for wrong in WRONG}
    assert [rule.id for rule in rules(kind) if rule.id not in caught] == []


def test_random_generators_are_restored() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    for target in (Drawing, Seeding, Shuffling):
        checks = conformance_checks(registered(Wrong(target, "schedule", "manners.no-global-rng")))
        (check,) = (check for check in checks if check.id == "manners.no-global-rng")
        assert check.outcome().status == "failed"
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())
