"""The kit itself: wrong components are each caught by the check that names what is wrong."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape, MetricProtocol, SamplerState
from ddpmkit.errors import ComponentUnavailable, InputError
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.found import FoundPlugin
from ddpmkit.plugin.registry import RegisteredComponent
from ddpmkit.testing import Check, ConformanceError, conformance_checks

ACME = FoundPlugin("acme.wrong", "", "ddpmkit-acme", "1.0")


class Rising:
    def __init__(self, config: ComponentConfig, *, timesteps: int) -> None:
        self.timesteps = timesteps

    def alphas_cumprod(self) -> Tensor:
        return torch.linspace(0.1, 0.9, self.timesteps, dtype=torch.float64)


class Single(Rising):
    def alphas_cumprod(self) -> Tensor:
        return torch.linspace(0.9, 0.1, self.timesteps)


class Unclipped(Rising):
    def alphas_cumprod(self) -> Tensor:
        return torch.linspace(1.0, -0.1, self.timesteps + 1, dtype=torch.float64)[1:]


class Batchy(nn.Module):
    def __init__(self, config: ComponentConfig, *, image_shape: Any, num_classes: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return self.conv(x - x.mean(dim=0)) * (1 + t[:, None, None, None])


class Timeless(Batchy):
    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return self.conv(x)


class Idle(Batchy):
    def __init__(self, config: ComponentConfig, **runtime: Any) -> None:
        super().__init__(config, **runtime)
        self.unused = nn.Linear(2, 2)


class Cut(Idle):
    """Its second layer is in the graph, and what comes out of it is thrown away."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return super().forward(x, t, label) + 0 * self.unused(x.new_ones(1, 2)).sum()


class Threes(Batchy):
    def __init__(self, config: ComponentConfig, *, image_shape: Any, num_classes: int, out_channels: int) -> None:
        super().__init__(config, image_shape=image_shape, num_classes=num_classes, out_channels=image_shape.channels)


class Rounding(Batchy):
    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        halved = nn.functional.avg_pool2d(self.conv(x), 2)
        return nn.functional.interpolate(halved, scale_factor=2)


class Summed:
    def __init__(self, config: ComponentConfig, *, prediction: str) -> None: ...

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        return (prediction - target).abs().mean()


class Offset(Summed):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        return (prediction - target).abs().flatten(1).mean(dim=1) + 0.1


class Noisy:
    """Ancestral sampling that adds noise in the last step as well, and from the global generator."""

    def __init__(self, config: ComponentConfig) -> None: ...

    def sample(self, denoiser: Any, noise: Any, steps: int) -> Iterator[SamplerState]:
        x = noise(0)
        times = [*denoiser.process.sampling_timesteps(steps), -1]
        for t, s in itertools.pairwise(times):
            x0_hat = denoiser(x, t).x0
            yield SamplerState(t + 1, x, x0_hat)
            bar = denoiser.process.alpha_bar_at(s)
            x = math.sqrt(bar) * x0_hat + math.sqrt(max(1 - bar, 0.1)) * torch.randn_like(x)
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        return steps + 1


class Rushed(Noisy):
    """Yields the end alone, and heeds no limit on the number of steps."""

    def sample(self, denoiser: Any, noise: Any, steps: int) -> Iterator[SamplerState]:
        x = denoiser(noise(0), 0).x0
        yield SamplerState(0, x, x)


class Sociable(Noisy):
    """Normalises over the batch."""

    def sample(self, denoiser: Any, noise: Any, steps: int) -> Iterator[SamplerState]:
        for t, x, x0_hat in super().sample(denoiser, noise, steps):
            yield SamplerState(t, x, x0_hat)
        yield SamplerState(0, noise(0) - noise(0).mean(dim=0), x0_hat)


class Spread:
    """How far the mean contrast is off."""

    protocol = MetricProtocol("plain", num_samples=8, weights="ema", comparable=True)
    better: ClassVar = {"distance": "lower"}
    dtype = torch.float64

    def __init__(self, config: ComponentConfig, *, device: torch.device) -> None: ...

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        return {
            "sum": images.to(self.dtype).std(dim=(1, 2, 3)).sum(),
            "count": torch.tensor(len(images), dtype=self.dtype),
        }

    def measure_generated(self, images: Tensor) -> dict[str, Tensor]:
        return self.measure_real(images)

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: first[name] + second[name] for name in first}

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        first, second = (float(state["sum"] / state["count"]) for state in (real, generated))
        return {"distance": abs(first - second)}


class Short(Spread):
    dtype = torch.float32


class Dropping(Spread):
    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        return first


class InPlace(Spread):
    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: first[name].add_(second[name]) for name in first}


class Upward(Spread):
    better: ClassVar = {"distance": "higher"}


class Nameless(Spread):
    better: ClassVar = {}


class Greys:
    """Six flat pictures of two classes."""

    def __init__(self, config: ComponentConfig, *, split: str, classes: Any, image_shape: ImageShape) -> None:
        self.class_names = tuple(classes or ("dark", "light"))
        self.image_shape = image_shape
        self.fingerprint = f"{self.class_names} {image_shape}"

    def __len__(self) -> int:
        return 3 * len(self.class_names)

    def images(self, indices: Any) -> Any:
        return np.broadcast_to(indices.astype(np.uint8)[:, None, None, None], (len(indices), *self.image_shape)).copy()

    def labels(self, indices: Any) -> Any:
        return indices // 3


class Scaled(Greys):
    def images(self, indices: Any) -> Any:
        return super().images(indices) / np.float32(255)


class Numbered(Greys):
    def labels(self, indices: Any) -> Any:
        return super().labels(indices) + 1


class Deaf(Greys):
    def __init__(self, config: ComponentConfig, *, split: str, classes: Any, image_shape: ImageShape) -> None:
        super().__init__(config, split=split, classes=None, image_shape=image_shape)


class Streaming(Greys):
    seen = 0

    def images(self, indices: Any) -> Any:
        self.seen += len(indices)
        return super().images(indices + self.seen)


class Forgetful(Greys):
    def __init__(self, config: ComponentConfig, **runtime: Any) -> None:
        super().__init__(config, **runtime)
        self.fingerprint = str(id(self))


class Impatient:
    def __init__(self, config: ComponentConfig, *, run_folder: Path) -> None:
        self.file = (run_folder / "log.txt").open("x")

    def run_started(self, event: Any) -> None:
        self.file.close()

    step = picture = scores = run_ended = lambda self, event: None


class Partial(Impatient):
    scores = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("kind", "wrong", "check"),
    [
        ("schedule", Rising, "schedule-decreasing"),
        ("schedule", Single, "schedule-shape"),
        ("schedule", Unclipped, "schedule-range"),
        ("backbone", Batchy, "backbone-independent"),
        ("backbone", Timeless, "backbone-time"),
        ("backbone", Idle, "backbone-gradients"),
        ("backbone", Cut, "backbone-gradients"),
        ("backbone", Threes, "backbone-channels"),
        ("backbone", Rounding, "backbone-shape"),
        ("backbone", Batchy, "backbone-labels"),
        ("loss", Summed, "loss-shape"),
        ("loss", Offset, "loss-perfect"),
        ("sampler", Noisy, "sampler-gaussian"),
        ("sampler", Noisy, "sampler-repeatable"),
        ("sampler", Noisy, "sampler-calls"),
        ("sampler", Rushed, "sampler-frames"),
        ("sampler", Rushed, "sampler-steps"),
        ("sampler", Sociable, "sampler-independent"),
        ("metric", Short, "metric-states"),
        ("metric", Dropping, "metric-merge"),
        ("metric", InPlace, "metric-merge-pure"),
        ("metric", Upward, "metric-noise"),
        ("metric", Nameless, "metric-better"),
        ("dataset", Scaled, "dataset-pictures"),
        ("dataset", Numbered, "dataset-labels"),
        ("dataset", Deaf, "dataset-classes"),
        ("dataset", Streaming, "dataset-by-index"),
        ("dataset", Forgetful, "dataset-fingerprint"),
        ("tracker", Partial, "tracker-events"),
        ("tracker", Impatient, "tracker-resume"),
    ],
)
def test_a_wrong_component_is_caught_by_the_check_that_names_it(kind: str, wrong: type, check: str) -> None:
    with pytest.raises(ConformanceError, match=f"{check}: acme/wrong fails"):
        named(kind, wrong, check).run()


@pytest.mark.parametrize(("kind", "right"), [("metric", Spread), ("dataset", Greys)])
def test_what_the_wrong_ones_are_made_of_is_right(kind: str, right: type) -> None:
    for check in conformance_checks(registered(kind, right)):
        check.run()


def registered(kind: str, target: type, **changes: Any) -> RegisteredComponent:
    provides = ("class-labels",) if kind == "backbone" else ()
    reference = f"{__name__}:{target.__name__}"
    component = Component(kind=kind, name="wrong", target=reference, summary="wrong", provides=provides, **changes)
    return RegisteredComponent(component, ACME)


def named(kind: str, target: type, check: str, **changes: Any) -> Check:
    (found,) = [item for item in conformance_checks(registered(kind, target, **changes)) if item.id == check]
    return found


class Unavailable(Summed):
    def __init__(self, config: ComponentConfig, *, prediction: str) -> None:
        raise ComponentUnavailable("not here")


def test_what_cannot_work_here_was_not_checked() -> None:
    with pytest.raises(ComponentUnavailable, match="not here"):
        named("loss", Unavailable, "loss-shape").run()


def test_what_breaks_inside_a_check_is_told_with_the_advice() -> None:
    with pytest.raises(ConformanceError) as caught:
        named("loss", Rising, "loss-shape").run()
    first, seen, *_, advice = str(caught.value).splitlines()
    assert first == "loss-shape: acme/wrong fails: does it give one number an image?"
    assert seen.startswith("  seen: loss 'acme/wrong': its target")
    assert "failed with TypeError: " in seen
    assert advice == "  Average over channels and pixels, not over the batch."


class Undescribed(ComponentConfig):
    power: float = 2.0


def test_a_config_without_descriptions_is_caught() -> None:
    with pytest.raises(ConformanceError, match="no description: power"):
        named("loss", Summed, "fields-described", config=f"{__name__}:Undescribed").run()


def test_a_manifest_that_imports_torch_is_caught() -> None:
    plugin = FoundPlugin("acme.wrong", "ddpmkit.diffusion", "ddpmkit-acme", "1.0")
    entry = replace(registered("loss", Summed), plugin=plugin)
    (check,) = [item for item in conformance_checks(entry) if item.id == "manifest-without-torch"]
    with pytest.raises(ConformanceError, match=r"importing .*ddpmkit\.diffusion.* imports torch"):
        check.run()


def test_settings_that_make_no_config_are_named() -> None:
    registry = discover(third_party=False).registry()
    with pytest.raises(InputError, match="dataset 'image-folder' cannot be built: root: Field required"):
        conformance_checks("image-folder", registry=registry)
    with pytest.raises(InputError, match="sampler 'ddim' cannot be built: eta: Input should be"):
        conformance_checks("ddim", settings={"eta": 2.0}, registry=registry)
    # As in a recipe, an array makes a tuple.
    levels = {"linear_attention_levels": [1, 2]}
    checks = conformance_checks("attention-unet", settings=levels, registry=registry)
    assert checks[0].subject.config.model_dump()["linear_attention_levels"] == (1, 2)
