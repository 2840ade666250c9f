"""The Fréchet distance in the features of a named network."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ddpmkit.plugin import InputError
from ddpmkit_plugins.fd import FdConfig
from ddpmkit_plugins.fd.metric import Fd

CPU = torch.device("cpu")


class Colours(nn.Module):
    """Three features, the means of the channels; or the maps before averaging."""

    def __init__(self, maps: bool = False) -> None:
        super().__init__()
        self.maps = maps
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x if self.maps else self.scale * x.mean(dim=(2, 3))


def colours() -> nn.Module:
    return Colours()


def maps() -> nn.Module:
    return Colours(maps=True)


def words() -> str:
    return "no network"


def flat() -> nn.Module:
    return nn.Flatten(0)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> str:
    """The import name of this module."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return "test_fd"


def random_images(count: int, seed: int, level: int = 100) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (level + torch.randint(0, 50, (count, 3, 1, 1), generator=draw)).expand(-1, 3, 8, 8).to(torch.uint8)


def test_with_channel_means_as_features_it_equals_the_closed_form(here: str) -> None:
    metric = Fd(FdConfig(extractor=f"{here}:colours", size=8, mean=(10.0,), std=(4.0,)), device=CPU)
    real, generated = random_images(200, 0), random_images(200, 1, level=120)
    # Features are (pixel - 10) / 2, three of them.
    x, y = ((images[:, :, 0, 0].double() - 10) / 2 for images in (real, generated))
    first, second = x.T.cov(), y.T.cov()
    roots = torch.linalg.eigvals(first @ second).real.sqrt().sum()
    expected = (x.mean(0) - y.mean(0)).square().sum() + first.trace() + second.trace() - 2 * roots
    found = metric.scores(metric.measure_real(real), metric.measure_generated(generated))["fd"]
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_feature_maps_are_averaged_and_channels_have_their_own_mean(here: str) -> None:
    config = FdConfig(extractor=f"{here}:maps", size=8, mean=(10.0, 20.0, 30.0), std=(4.0,))
    state = Fd(config, device=CPU).measure_generated(random_images(5, 0))
    pixels = random_images(5, 0)[:, :, 0, 0].double()
    torch.testing.assert_close(
        state["sum"], ((pixels - torch.tensor([10.0, 20.0, 30.0])) / 2).sum(0), rtol=1e-5, atol=0
    )


def test_a_file_and_a_function_have_different_hashes(here: str, tmp_path: Path) -> None:
    file = tmp_path / "colours.pt"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.* is deprecated")
        torch.jit.script(Colours()).save(str(file))
    by_file = Fd(FdConfig(extractor=str(file), size=8), device=CPU)
    by_function = Fd(FdConfig(extractor=f"{here}:colours", size=8), device=CPU)
    assert by_file.protocol.facts["extractor"] == "colours.pt"
    assert by_file.protocol.facts["extractor SHA-256"] != by_function.protocol.facts["extractor SHA-256"]
    images = random_images(4, 0)
    torch.testing.assert_close(by_file.measure_real(images), by_function.measure_real(images))


@pytest.mark.parametrize(
    ("extractor", "message"),
    [
        ("nowhere.pt", r"metric\.extractor is .*nowhere\.pt, which does not exist"),
        ("HERE:nothing", "HERE:nothing failed with AttributeError"),
        ("no_such_module:network", "failed with ModuleNotFoundError"),
        ("HERE:words", "returned str, not a torch module"),
        (__file__, r"test_fd\.py is not a TorchScript file"),
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_an_invalid_extractor_is_named(here: str, extractor: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("HERE", here)):
        Fd(FdConfig(extractor=extractor.replace("HERE", here)), device=CPU)


def test_an_extractor_without_features_is_named(here: str) -> None:
    metric = Fd(FdConfig(extractor=f"{here}:flat", size=8), device=CPU)
    with pytest.raises(InputError, match=r"returned \[768\] for 4 images"):
        metric.measure_real(random_images(4, 0))
