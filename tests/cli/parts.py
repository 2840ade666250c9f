"""Small components as a plugin file: `--plugin tests/cli/parts.py`."""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape, MetricProtocol
from ddpmkit.plugin import Component, ComponentConfig, hookimpl


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    named = {
        **{"greys": "dataset", "pixelwise": "backbone", "brightness": "metric", "failing": "sampler"},
        **{"leaving": "loss", "lingering": "tracker", "grabbing": "tracker"},
    }
    for name, kind in named.items():
        yield Component(kind=kind, name=name, target=f"{__name__}:{name.title()}", summary=f"a {kind}")


class Greys:
    """Image i has the grey level i everywhere."""

    class_names = ("grey",)
    fingerprint = "greys"

    def __init__(self, config: ComponentConfig, *, split: str, classes: object, image_shape: ImageShape) -> None:
        self.image_shape = image_shape
        self.size = 64 if split == "train" else 16

    def __len__(self) -> int:
        return self.size

    def images(self, indices: np.ndarray) -> np.ndarray:
        return np.broadcast_to(indices[:, None, None, None], (len(indices), *self.image_shape)).astype(np.uint8)

    def labels(self, indices: np.ndarray) -> np.ndarray:
        return np.zeros_like(indices)


class Pixelwise(nn.Module):
    """A network that processes each pixel separately."""

    def __init__(
        self, config: ComponentConfig, *, image_shape: ImageShape, num_classes: int, out_channels: int
    ) -> None:
        super().__init__()
        self.layer = nn.Conv2d(image_shape.channels, out_channels, 1)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return self.layer(x)


class Brightness:
    """The difference of the mean grey levels."""

    better: ClassVar = {"distance": "lower"}
    protocol = MetricProtocol("plain", num_samples=32, weights="ema", comparable=True, facts={"resize": "none"})

    def __init__(self, config: ComponentConfig, *, device: torch.device) -> None:
        pass

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        return {
            "sum": images.double().mean(dim=(1, 2, 3)).sum(),
            "count": torch.tensor(len(images), dtype=torch.float64),
        }

    measure_generated = measure_real

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: first[name] + second[name] for name in first}

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        means = [float(state["sum"] / state["count"]) for state in (real, generated)]
        return {"distance": abs(means[0] - means[1])}


class Leaving:
    """A loss that exits the process with code 0 at the third step."""

    def __init__(self, config: ComponentConfig, *, prediction: str) -> None:
        self.calls = 0

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 3:
            sys.exit(0)
        return (prediction - target).square().flatten(1).mean(1)


class Lingering:
    """A tracker whose `run_ended` never returns."""

    def __init__(self, config: ComponentConfig, *, run_folder: Path) -> None:
        pass

    def run_started(self, event: object) -> None:
        pass

    def step(self, event: object) -> None:
        pass

    picture = scores = step

    def run_ended(self, event: object) -> None:
        time.sleep(3600)


class Grabbing(Lingering):
    """A tracker that installs a handler of SIGINT."""

    def run_started(self, event: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


class Failing:
    """Generates nothing."""

    def __init__(self, config: ComponentConfig) -> None:
        pass

    def network_calls(self, steps: int) -> int:
        return steps

    def sample(self, *_arguments: object) -> None:
        raise KeyError("beta")
