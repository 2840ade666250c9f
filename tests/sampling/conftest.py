"""Every sampler with the exact network of Gaussian data."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape, Sampler
from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit.runtime import Runtime
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit_plugins.ancestral import AncestralConfig
from ddpmkit_plugins.ancestral.sampler import AncestralSampler
from ddpmkit_plugins.ddim import DdimConfig
from ddpmkit_plugins.ddim.sampler import DdimSampler
from ddpmkit_plugins.dpm_solver_2m import DpmSolver2mConfig
from ddpmkit_plugins.dpm_solver_2m.sampler import DpmSolver2mSampler
from ddpmkit_plugins.heun import HeunConfig
from ddpmkit_plugins.heun.sampler import HeunSampler
from ddpmkit_plugins.unipc import UniPcConfig
from ddpmkit_plugins.unipc.sampler import UniPcSampler

T = 200
SAMPLERS = {
    "ancestral": AncestralSampler(AncestralConfig()),
    "ddim": DdimSampler(DdimConfig()),
    "dpm-solver-2m": DpmSolver2mSampler(DpmSolver2mConfig()),
    "heun": HeunSampler(HeunConfig()),
    "unipc": UniPcSampler(UniPcConfig()),
}


class Gaussian(nn.Module):
    """The exact eps of images whose pixels are 0.2 + brightness + pixel noise.

    The brightness is common to all pixels of an image and has the variance `common`; the pixel noise is independent and
    has the variance `own`.
    """

    def __init__(self, own: float, common: float = 0.0) -> None:
        super().__init__()
        self.own, self.common, self.alpha_bar = own, common, alpha_bar().float()
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        self.calls += 1
        bar = self.alpha_bar[t][:, None, None, None]
        # The covariance of x_t has two eigenvalues: one for the mean of the pixels, one for the deviations from it.
        off = x - bar.sqrt() * 0.2
        mean = off.mean(dim=(1, 2, 3), keepdim=True)
        of_mean = bar * (self.own + off[0].numel() * self.common) + 1 - bar
        of_rest = bar * self.own + 1 - bar
        return (1 - bar).sqrt() * (mean / of_mean + (off - mean) / of_rest)


def alpha_bar() -> Tensor:
    """The schedule of the conformance kit, float64 [T]."""
    t = torch.arange(1, T + 1, dtype=torch.float64) / T
    return torch.cos(t * math.pi / 2 * 0.999) ** 2


@pytest.fixture(params=SAMPLERS)
def sampler(request: pytest.FixtureRequest) -> Sampler:
    """Each sampler in turn."""
    return SAMPLERS[request.param]


@pytest.fixture
def generator() -> Callable[..., ImageGenerator]:
    """Generates images [3, 8, 10] of mean 0.2 and standard deviation 0.15 by default."""

    def make(sampler: Sampler = SAMPLERS["ddim"], network: nn.Module | None = None, **others: Any) -> ImageGenerator:
        parts = {"steps": T, "batch_size": 64, **others}
        return ImageGenerator(
            network=network or Gaussian(own=0.15**2),
            process=GaussianDiffusion(alpha_bar()),
            sampler=sampler,
            image_shape=ImageShape(3, 8, 10),
            runtime=Runtime(torch.device("cpu"), torch.float32),
            **parts,
        )

    return make


@pytest.fixture
def image() -> Tensor:
    """uint8 [3, 8, 10], noise around a middle grey."""
    return torch.randint(60, 190, (3, 8, 10), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture
def gaussian() -> type[Gaussian]:
    """The network, for tests that choose its variances."""
    return Gaussian
