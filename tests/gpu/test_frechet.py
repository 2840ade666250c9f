"""The Fréchet distance of features on a device is that of the CPU."""

import pytest
import torch
from torch import Tensor

from ddpmkit.frechet import distance_between, feature_sums

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("count", [200, 20])
def test_the_distance_equals_that_of_the_cpu(device: torch.device, count: int) -> None:
    """With 20 images the covariance of 64 features is singular."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(64, 64, generator=generator, dtype=torch.float64) / 8
    real = torch.randn(300, 64, generator=generator, dtype=torch.float64) @ mix
    generated = torch.randn(count, 64, generator=generator, dtype=torch.float64) @ mix + 0.1

    def distance(where: torch.device) -> float:
        def sums(features: Tensor) -> dict[str, Tensor]:
            return feature_sums(features.to(where))

        return distance_between(sums(real), sums(generated))

    expected = distance(torch.device("cpu"))
    assert expected > 0.5
    assert distance(device) == pytest.approx(expected, rel=1e-9)
