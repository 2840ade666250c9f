"""Runs the conformance checks of a metric, and tests the values of this metric."""

import pytest
import torch
from ddpmkit_fd_efficientnet import EfficientnetFdConfig
from ddpmkit_fd_efficientnet.metric import EfficientnetFd

from ddpmkit.plugin import InputError
from ddpmkit.testing import conformance_tests

test_conformance = conformance_tests("efficientnet/fd")


@pytest.fixture(scope="module")
def metric() -> EfficientnetFd:
    return EfficientnetFd(EfficientnetFdConfig(), device=torch.device("cpu"))


def test_noise_scores_worse_than_other_gradients(metric: EfficientnetFd) -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = (torch.rand((40, 3, 1, 1), generator=generator) * torch.linspace(60, 255, 32)).expand(-1, 3, 32, 32).byte()
    noise = torch.randint(0, 256, (20, 3, 32, 32), generator=generator, dtype=torch.uint8)
    real = metric.measure_real(smooth[:20])
    similar = metric.scores(real, metric.measure_generated(smooth[20:]))["fd"]
    different = metric.scores(real, metric.measure_generated(noise))["fd"]
    assert different > 3 * similar


def test_the_sums_of_a_batch_are_those_of_its_images(metric: EfficientnetFd) -> None:
    images = torch.randint(0, 256, (5, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    each = [metric.measure_generated(image[None])["sum"] for image in images]
    together = metric.measure_generated(images)
    assert together["n"] == 5
    torch.testing.assert_close(together["sum"], torch.stack(each).sum(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together["outer"], sum(torch.outer(x, x) for x in each), rtol=1e-3, atol=1e-3)


def test_the_protocol_contains_the_hash_of_the_weights(metric: EfficientnetFd) -> None:
    assert metric.protocol.facts["extractor SHA-256"].startswith("57934424")


def test_one_image_is_too_few(metric: EfficientnetFd) -> None:
    one = metric.measure_generated(torch.zeros((1, 3, 32, 32), dtype=torch.uint8))
    with pytest.raises(InputError, match="at least 2 real images"):
        metric.scores(one, one)
