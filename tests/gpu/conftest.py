import pytest
import torch


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device named by `--gpu-tests-on`."""
    return torch.device(request.config.getoption("--gpu-tests-on"))
