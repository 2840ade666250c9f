from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule

MakeProcess = Callable[..., GaussianDiffusion]
MakeImages = Callable[..., Tensor]


@pytest.fixture
def process() -> MakeProcess:
    """Make a process with a cosine schedule."""

    def make(timesteps: int = 50, prediction: Prediction = "epsilon") -> GaussianDiffusion:
        return GaussianDiffusion.from_schedule(CosineSchedule(CosineConfig(), timesteps=timesteps), prediction)

    return make


@pytest.fixture
def images() -> MakeImages:
    """Make images float32 [count, 3, 8, 8], uniform in [-1, 1]."""

    def make(count: int = 4, seed: int = 0) -> Tensor:
        return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1

    return make


@pytest.fixture
def noise() -> MakeImages:
    """Make standard normal noise float32 [count, 3, 8, 8]."""

    def make(count: int = 4, seed: int = 1) -> Tensor:
        return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))

    return make
