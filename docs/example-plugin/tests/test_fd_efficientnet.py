"""The conformance checks that every metric runs, and the numbers of this one."""

import pytest
import torch
from ddpmkit_fd_efficientnet import EfficientnetFdConfig
from ddpmkit_fd_efficientnet.metric import EfficientnetFd, frechet_distance

from ddpmkit.plugin import InputError
from ddpmkit.testing import Check, conformance_checks


@pytest.mark.parametrize("check", conformance_checks("efficientnet/fd"), ids=str)
def test_conformance(check: Check) -> None:
    check.run()


@pytest.fixture(scope="module")
def metric() -> EfficientnetFd:
    return EfficientnetFd(EfficientnetFdConfig(), device=torch.device("cpu"))


def test_the_distance_of_axis_aligned_gaussians_is_their_closed_form() -> None:
    first, second = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([4.0, 4.0, 1.0]).double()
    mean, other = torch.tensor([0.0, 1.0, 0.0]).double(), torch.tensor([2.0, 1.0, 1.0]).double()
    expected = 5.0 + 1.0 + 0.0 + 4.0  # |m1 - m2|^2, then (s1 - s2)^2 of each axis
    assert frechet_distance(mean, first.diag(), other, second.diag()) == pytest.approx(expected, abs=1e-12)


def test_the_network_tells_gradients_from_noise(metric: EfficientnetFd) -> None:
    draw = torch.Generator().manual_seed(0)
    smooth = (torch.rand((40, 3, 1, 1), generator=draw) * torch.linspace(60, 255, 32)).expand(-1, 3, 32, 32).byte()
    noise = torch.randint(0, 256, (20, 3, 32, 32), generator=draw, dtype=torch.uint8)
    real = metric.measure_real(smooth[:20])
    like = metric.scores(real, metric.measure_generated(smooth[20:]))["fd"]
    unlike = metric.scores(real, metric.measure_generated(noise))["fd"]
    assert unlike > 3 * like


def test_the_weights_are_those_of_the_package(metric: EfficientnetFd) -> None:
    assert metric.protocol.facts["extractor SHA-256"].startswith("57934424")


def test_one_image_has_no_covariance(metric: EfficientnetFd) -> None:
    one = metric.measure_generated(torch.zeros((1, 3, 32, 32), dtype=torch.uint8))
    with pytest.raises(InputError, match="at least 2 images"):
        metric.scores(one, one)
