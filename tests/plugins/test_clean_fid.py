"""The clean-fid metric against the clean-fid package's own functions, on a small network with Inception's call."""

import hashlib
import importlib.metadata
import io
import warnings

import cleanfid.fid
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cleanfid.downloads_helper import inception_url
from cleanfid.inception_torchscript import InceptionV3W
from cleanfid.resize import build_resizer
from PIL import Image
from torch import nn

from ddpmkit.contracts import Metric
from ddpmkit.plugin import ComponentUnavailable, InputError
from ddpmkit_plugins.clean_fid import CleanFidConfig, inception
from ddpmkit_plugins.clean_fid.inception import find_inception, load_inception
from ddpmkit_plugins.clean_fid.metric import CleanFid

CPU = torch.device("cpu")


class Layers(nn.Module):
    """2048 features, of which `live` are non-negative nonlinear functions of the image's colours, the others 0."""

    def __init__(self, live):
        super().__init__()
        self.dead = 2048 - live
        self.pool = nn.AvgPool2d(37)
        self.mix = nn.Linear(192, live)
        generator = torch.Generator().manual_seed(0)
        nn.init.normal_(self.mix.weight, std=0.15, generator=generator)
        nn.init.normal_(self.mix.bias, std=0.15, generator=generator)

    def forward(self, x):
        return F.pad(torch.relu(self.mix(self.pool(x).flatten(1))), (0, self.dead))


class SmallInception(nn.Module):
    """The call surface of the published file: `model(x, return_features=True)` and `.layers`."""

    def __init__(self, live):
        super().__init__()
        self.layers = Layers(live)

    def forward(self, x, return_features: bool = False):
        return self.layers(x)


def save_script(module, path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.* is deprecated")
        torch.jit.script(module).save(str(path))
    return path


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    return save_script(SmallInception(live=512), tmp_path_factory.mktemp("network") / "of any name.pt")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DDPMKIT_INCEPTION", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def metric(inception_file):
    return CleanFid(CleanFidConfig(inception=str(inception_file)), device=CPU)


def random_images(count, seed, channels=3):
    """Random 8 x 8 images with different brightness and contrast; the seed shifts both."""
    generator = np.random.default_rng(seed)
    level = generator.uniform(60, 160 + 10 * seed, (count, channels, 1, 1))
    noise = generator.normal(0, 40, (count, channels, 8, 8))
    return torch.from_numpy((level + noise).clip(0, 255).astype(np.uint8))


def measured(measure, merge, images, batch_size):
    state, *others = [measure(batch) for batch in images.split(batch_size)]
    for other in others:
        state = merge(state, other)
    return state


def fid(metric, real, generated, batch_size=64):
    return metric.scores(
        measured(metric.measure_real, metric.merge, real, batch_size),
        measured(metric.measure_generated, metric.merge, generated, batch_size),
    )["fid"]


def clean_fid_features(images, file, tmp_path):
    """clean-fid's features of RGB images, by its own resize, network and loop body; float64."""
    folder = tmp_path / "clean-fid"
    folder.mkdir(exist_ok=True)
    (folder / "inception-2015-12-05.pt").write_bytes(file.read_bytes())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.load` is deprecated")
        network = InceptionV3W(str(folder), download=False)
    resize = build_resizer("clean")
    parts = []
    for batch in images.permute(0, 2, 3, 1).split(32):
        resized = torch.from_numpy(np.stack([resize(image) for image in batch.numpy()]).transpose(0, 3, 1, 2))
        parts.append(cleanfid.fid.get_batch_features(resized, network, CPU))
    return np.concatenate(parts).astype(np.float64)


def clean_fid(real, generated):
    """clean-fid's distance on the features that are not always 0: the others add 0 and make its sqrtm slow."""
    live = (real != 0).any(axis=0) | (generated != 0).any(axis=0)
    return cleanfid.fid.fid_from_feats(real[:, live], generated[:, live])


@pytest.mark.parametrize(
    ("num_real", "num_generated", "live"),
    [
        pytest.param(2100, 2060, 2048, marks=pytest.mark.slow),
        (600, 560, 512),
        (600, 70, 512),
        (90, 70, 512),
    ],
)
@pytest.mark.usefixtures("sqrtm_with_disp")
def test_the_score_equals_clean_fid_with_more_and_fewer_images_than_features(tmp_path, num_real, num_generated, live):
    file = save_script(SmallInception(live), tmp_path / "network.pt")
    metric = CleanFid(CleanFidConfig(inception=str(file)), device=CPU)
    real, generated = random_images(num_real, seed=1), random_images(num_generated, seed=3)
    real_features, generated_features = (clean_fid_features(images, file, tmp_path) for images in (real, generated))
    expected = clean_fid(real_features, generated_features)
    assert expected > 1
    assert fid(metric, real, generated) == pytest.approx(expected, rel=1e-6)


def test_the_sums_equal_those_of_clean_fid_features(metric, inception_file, tmp_path):
    images = random_images(40, seed=1)
    features = clean_fid_features(images, inception_file, tmp_path)
    state = metric.measure_generated(images)
    assert {name: tensor.dtype for name, tensor in state.items()} == dict.fromkeys(("n", "sum", "outer"), torch.float64)
    assert float(state["n"]) == 40
    np.testing.assert_allclose(state["sum"], features.sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(state["outer"], features.T @ features, rtol=1e-5)


def test_batches_of_any_size_and_order_add_up(inception_file):
    real, generated = random_images(40, seed=1), random_images(30, seed=3)
    small = CleanFid(CleanFidConfig(inception=str(inception_file), batch_size=3), device=CPU)
    large = CleanFid(CleanFidConfig(inception=str(inception_file), batch_size=64), device=CPU)
    assert fid(small, real.flip(0), generated, batch_size=11) == pytest.approx(fid(large, real, generated), rel=1e-6)


def test_grayscale_is_measured_as_three_equal_channels(metric):
    grey = random_images(6, seed=1, channels=1)
    for name, tensor in metric.measure_generated(grey).items():
        torch.testing.assert_close(tensor, metric.measure_generated(grey.repeat(1, 3, 1, 1))[name], rtol=0, atol=0)


@pytest.mark.parametrize("side", ["real", "generated"])
def test_one_image_is_an_error_because_it_has_no_covariance(metric, side):
    one, several = metric.measure_real(random_images(1, seed=1)), metric.measure_real(random_images(4, seed=1))
    states = (one, several) if side == "real" else (several, one)
    with pytest.raises(InputError, match=f"at least 2 {side} images.*not 1"):
        metric.scores(*states)


def test_the_standard_protocol_is_comparable_and_lists_its_facts(metric, inception_file):
    assert isinstance(metric, Metric)
    assert metric.better == {"fid": "lower"}
    protocol = metric.protocol
    assert (protocol.name, protocol.num_samples, protocol.weights) == ("standard", 10_000, "ema")
    assert protocol.comparable
    assert {"reference", "resize"} < protocol.facts.keys()
    assert protocol.facts["extractor"] == "of any name.pt"
    assert protocol.facts["extractor SHA-256"] == hashlib.sha256(inception_file.read_bytes()).hexdigest()
    assert protocol.facts["clean-fid"] == importlib.metadata.version("clean-fid")


def test_the_standard_protocol_uses_real_images_unchanged(metric):
    images = random_images(6, seed=1)
    torch.testing.assert_close(metric.measure_real(images), metric.measure_generated(images), rtol=0, atol=0)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_the_original_protocol_encodes_real_images_as_jpeg(inception_file, channels, mode):
    metric = CleanFid(CleanFidConfig(protocol="original", inception=str(inception_file)), device=CPU)
    images = random_images(6, seed=1, channels=channels)
    decoded = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).squeeze().numpy()).save(file, format="JPEG", quality=75)
        decoded.append(torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1))
    assert Image.open(file).mode == mode
    real, generated = metric.measure_real(images), metric.measure_generated(images)
    torch.testing.assert_close(real, metric.measure_generated(torch.stack(decoded)), rtol=0, atol=0)
    assert not torch.equal(real["sum"], generated["sum"])
    protocol = metric.protocol
    assert (protocol.name, protocol.num_samples, protocol.weights) == ("original", 512, "raw")
    assert not protocol.comparable
    assert "JPEG" in protocol.facts["reference"]


def test_the_network_file_is_looked_for_in_order(inception_file, cache_folder, tmp_path, monkeypatch):
    def fetch(url, destination, *, sha256):
        assert url == inception_url
        assert sha256 == "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
        destination.parent.mkdir()
        destination.write_bytes(b"fetched")
        return destination

    monkeypatch.setattr(inception, "download", fetch)
    cached = cache_folder / "inception-2015-12-05.pt"
    assert find_inception("") == cached
    assert cached.read_bytes() == b"fetched"
    monkeypatch.setattr(inception, "download", None)
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(b"fetched").hexdigest())
    assert find_inception("") == cached
    by_environment = tmp_path / "by-environment.pt"
    by_environment.touch()
    monkeypatch.setenv("DDPMKIT_INCEPTION", str(by_environment))
    assert find_inception("") == by_environment
    assert find_inception(str(inception_file)) == inception_file


@pytest.mark.parametrize("failure", [InputError("no network"), OSError("no network")])
def test_an_unavailable_network_is_an_error_when_the_metric_is_built(cache_folder, monkeypatch, failure):
    def fetch(url, destination, *, sha256):
        raise failure

    monkeypatch.setattr(inception, "download", fetch)
    with pytest.raises(ComponentUnavailable, match="no network") as caught:
        CleanFid(CleanFidConfig(), device=CPU)
    cached = str(cache_folder / "inception-2015-12-05.pt")
    assert cached in caught.value.message
    by_hand, named, without = caught.value.remedies
    assert inception_url in by_hand
    assert cached in by_hand
    assert "metric.inception" in named
    assert "DDPMKIT_INCEPTION" in named
    assert "--skip-unavailable-metrics" in without


def test_a_missing_named_file_is_an_error_and_nothing_else_is_tried(
    inception_file, cache_folder, tmp_path, monkeypatch
):
    cache_folder.mkdir()
    (cache_folder / "inception-2015-12-05.pt").write_bytes(inception_file.read_bytes())
    missing = str(tmp_path / "missing.pt")
    with pytest.raises(InputError, match=r"metric\.inception is .*missing\.pt") as caught:
        CleanFid(CleanFidConfig(inception=missing), device=CPU)
    # --skip-unavailable-metrics must not skip a metric because of a typo.
    assert not isinstance(caught.value, ComponentUnavailable)
    monkeypatch.setenv("DDPMKIT_INCEPTION", missing)
    with pytest.raises(InputError, match=r"DDPMKIT_INCEPTION is .*missing\.pt"):
        CleanFid(CleanFidConfig(), device=CPU)


def test_a_file_that_is_not_the_network_is_named(tmp_path):
    text = tmp_path / "text.pt"
    text.write_text("<html>404</html>")
    weights = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(1)}, weights)
    other = save_script(nn.ReLU(), tmp_path / "other.pt")
    for file in (text, weights, other):
        with pytest.raises(InputError, match=f"{file.name} is not the Inception network in TorchScript"):
            CleanFid(CleanFidConfig(inception=str(file)), device=CPU)


def test_a_system_without_links_uses_a_copy(inception_file, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    features = load_inception(inception_file, CPU)(torch.zeros(2, 3, 299, 299))
    assert features.shape == (2, 2048)
