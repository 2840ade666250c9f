"""The built-ins run the kit with no exemption, and wrong components are each caught by the check that names it."""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ddpmkit.contracts import SamplerState
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.found import FoundPlugin
from ddpmkit.plugin.registry import RegisteredComponent
from ddpmkit.testing import ConformanceError, conformance_checks

ACME = FoundPlugin("acme.wrong", "", "ddpmkit-acme", "1.0")
BUILT_INS = [
    entry for entries in discover(third_party=False).registry().components.values() for entry in entries.values()
]


class Features(nn.Module):
    """Stands in for the layers of the Inception file: 2048 numbers an image from [B, 3, 299, 299] in -1 .. 1."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(2048, 3 * 16, generator=draw))

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
        return torch.relu(pooled @ self.weight.t())


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = Features()

    def forward(self, x: Tensor, return_features: bool = True) -> Tensor:
        return self.layers(x / 128 - 1)


@pytest.fixture
def settings(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """What a component cannot do without: a folder of pictures, a network file, a mode without a server."""

    def for_component(use: str) -> dict[str, Any]:
        if use == "image-folder":
            for number in range(4):
                path = tmp_path / "train" / "cat" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(path)
            return {"root": str(tmp_path)}
        if use == "clean-fid":
            file = tmp_path / "inception-2015-12-05.pt"
            torch.jit.script(Inception()).save(str(file))
            return {"inception": str(file)}
        if use == "critters":
            return {"size": 4, "val_size": 2}
        return {"mode": "offline"} if use == "wandb" else {}

    return for_component


@pytest.mark.parametrize("entry", BUILT_INS, ids=lambda entry: f"{entry.kind}-{entry.component.name}")
# torch.jit announces its own end; the published Inception file is what it is.
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_every_built_in_passes_every_check(
    entry: RegisteredComponent, settings: Callable[[str], dict[str, Any]]
) -> None:
    checks = conformance_checks(entry, settings=settings(entry.use))
    assert len(checks) >= 5
    for check in checks:
        check.run()


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


@pytest.mark.parametrize(
    ("kind", "wrong", "check"),
    [
        ("schedule", Rising, "schedule-decreasing"),
        ("schedule", Single, "schedule-shape"),
        ("schedule", Unclipped, "schedule-range"),
        ("backbone", Batchy, "backbone-independent"),
        ("backbone", Timeless, "backbone-time"),
        ("backbone", Idle, "backbone-gradients"),
        ("loss", Summed, "loss-shape"),
        ("loss", Offset, "loss-perfect"),
        ("sampler", Noisy, "sampler-gaussian"),
        ("sampler", Noisy, "sampler-repeatable"),
        ("sampler", Noisy, "sampler-calls"),
    ],
)
def test_a_wrong_component_is_caught_by_the_check_that_names_it(kind: str, wrong: type, check: str) -> None:
    component = Component(kind=kind, name="wrong", target=f"{__name__}:{wrong.__name__}", summary="wrong")
    entry = RegisteredComponent(component, ACME)
    (named,) = [item for item in conformance_checks(entry) if item.id == check]
    with pytest.raises(ConformanceError, match=f"{check}: acme/wrong fails"):
        named.run()


class Undescribed(ComponentConfig):
    power: float = 2.0


def test_a_config_without_descriptions_is_caught() -> None:
    config = f"{__name__}:Undescribed"
    component = Component(kind="loss", name="wrong", target=f"{__name__}:Summed", config=config, summary="wrong")
    checks = conformance_checks(RegisteredComponent(component, ACME))
    with pytest.raises(ConformanceError, match="no description: power"):
        next(item for item in checks if item.id == "fields-described").run()
