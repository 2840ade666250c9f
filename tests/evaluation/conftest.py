"""A small dataset in memory, and a metric whose values are easy to verify."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpmkit.contracts import Better, ImageShape, MetricProtocol
from ddpmkit.data.images import ImageSource

SHAPE = ImageShape(3, 8, 8)


class MemoryDataset:
    """Random images by index; their brightness differs, so that halves differ."""

    def __init__(self, count: int, fingerprint: str = "first") -> None:
        levels = np.random.default_rng(count).integers(0, 200, (count, 1, 1, 1))
        noise = np.random.default_rng(count + 1).integers(0, 56, (count, *SHAPE))
        self.pixels = (levels + noise).astype(np.uint8)
        self.class_names = ("thing",)
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.pixels[indices]

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.zeros(len(indices), dtype=np.int64)


class MeanVariance:
    """Differences of mean and variance of the images' brightness; counts the images that it measures."""

    better: Mapping[str, Better] = {"mean": "lower", "variance": "lower"}

    def __init__(self, facts: Mapping[str, str] | None = None) -> None:
        self.protocol = MetricProtocol("plain", 100, "ema", True, {"reference": "as stored", **(facts or {})})
        self.measured: list[int] = []

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        return self.measure_generated(images)

    def measure_generated(self, images: Tensor) -> dict[str, Tensor]:
        self.measured.append(len(images))
        brightness = images.double().mean(dim=(1, 2, 3))
        count = torch.tensor(len(images), dtype=torch.float64)
        return {"n": count, "sum": brightness.sum(), "squares": (brightness**2).sum()}

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: first[name] + second[name] for name in first}

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        (mean_a, variance_a), (mean_b, variance_b) = self._moments(real), self._moments(generated)
        return {"mean": abs(mean_a - mean_b), "variance": abs(variance_a - variance_b)}

    def _moments(self, state: dict[str, Tensor]) -> tuple[float, float]:
        mean = state["sum"] / state["n"]
        return float(mean), float(state["squares"] / state["n"] - mean**2)


@pytest.fixture
def new_source() -> Callable[..., ImageSource]:
    """Call it with a number of images and, optionally, a fingerprint."""
    return lambda count, fingerprint="first": ImageSource(MemoryDataset(count, fingerprint), SHAPE)


@pytest.fixture
def new_metric() -> Callable[..., MeanVariance]:
    """Call it with additional facts of its protocol, if any."""
    return MeanVariance


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has its own cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DDPMKIT_CACHE", str(folder))
    return folder
