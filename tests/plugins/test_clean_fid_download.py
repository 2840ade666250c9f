"""Downloads of the Inception network from a faulty server, and damaged copies of it."""

import hashlib
import http.server
import logging
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from ddpmkit.plugin import ComponentUnavailable, InputError
from ddpmkit_plugins.clean_fid import CleanFidConfig, inception
from ddpmkit_plugins.clean_fid.inception import find_inception, load_inception
from ddpmkit_plugins.clean_fid.metric import CleanFid

CPU = torch.device("cpu")
NAME = "inception-2015-12-05.pt"


class SmallInception(nn.Module):
    """The call surface of the published file, of the same kind and with weights that can be damaged."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(299), nn.Flatten(), nn.Linear(3, 2048))

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return self.layers(x)


class Server(http.server.ThreadingHTTPServer):
    """Serves one file, also from an offset."""

    body = b""
    status = 200
    cut_at: int | None = None


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        body = self.server.body
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"published"')
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        self.wfile.write(body[start : self.server.cut_at])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("network") / "small.pt"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.* is deprecated")
        torch.jit.script(SmallInception()).save(str(file))
    return file.read_bytes()


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the file in an empty cache folder."""
    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DDPMKIT_INCEPTION", raising=False)
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache" / NAME


@pytest.fixture
def server(network: bytes, cached: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.body = network
        monkeypatch.setattr(inception, "URL", f"http://127.0.0.1:{server.server_address[1]}/{NAME}")
        monkeypatch.setattr(inception, "SHA256", hashlib.sha256(network).hexdigest())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def flipped(content: bytes) -> bytes:
    """One bit of a weight is flipped."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def test_an_incomplete_download_is_not_used_and_resumes(server: Server, cached: Path, network: bytes) -> None:
    server.cut_at = len(network) // 3
    with pytest.raises(ComponentUnavailable, match="transfer ended"):
        CleanFid(CleanFidConfig(), device=CPU)
    assert sorted(path.name for path in cached.parent.iterdir()) == [f"{NAME}.part", f"{NAME}.part.json"]
    server.cut_at = None
    CleanFid(CleanFidConfig(), device=CPU)
    assert cached.read_bytes() == network
    assert list(cached.parent.iterdir()) == [cached]


@pytest.mark.parametrize("body", [b"<html>please log in</html>", b"", None])
def test_a_file_other_than_the_published_one_is_not_used(
    server: Server, cached: Path, network: bytes, body: bytes | None
) -> None:
    server.body = flipped(network) if body is None else body
    with pytest.raises(ComponentUnavailable, match="not the expected file: its SHA-256"):
        CleanFid(CleanFidConfig(), device=CPU)
    assert list(cached.parent.iterdir()) == []


@pytest.mark.parametrize("status", [404, 503])
def test_a_server_error_is_shown_with_remedies(server: Server, cached: Path, status: int) -> None:
    server.status = status
    with pytest.raises(ComponentUnavailable, match=f"missing, and downloading .* failed: .*{status}") as caught:
        CleanFid(CleanFidConfig(), device=CPU)
    assert caught.value.message.count("http") == 1
    assert list(cached.parent.iterdir()) == []


@pytest.mark.parametrize("damage", [lambda content: content[:-1000], flipped, lambda _content: b""])
def test_a_damaged_copy_in_the_cache_is_downloaded_again_with_one_warning(
    server: Server, cached: Path, network: bytes, damage, caplog: pytest.LogCaptureFixture
) -> None:
    cached.write_bytes(damage(network))
    with caplog.at_level(logging.WARNING):
        CleanFid(CleanFidConfig(), device=CPU)
        find_inception("")
    (line,) = caplog.messages
    assert line == f"{cached} is damaged or not the published network; it is downloaded again."
    assert cached.read_bytes() == network


def test_a_damaged_copy_without_a_network_is_not_used(server: Server, cached: Path, network: bytes) -> None:
    server.server_close()
    cached.write_bytes(flipped(network))
    with pytest.raises(ComponentUnavailable, match="is another file, and downloading"):
        CleanFid(CleanFidConfig(), device=CPU)
    assert cached.read_bytes() == flipped(network)


def test_a_named_file_that_is_damaged_is_not_used(tmp_path: Path, network: bytes) -> None:
    """torch itself loads nearly all of these files without an error."""
    file = tmp_path / "named.pt"
    file.write_bytes(network)
    ones = torch.ones(1, 3, 299, 299)
    whole = load_inception(file, CPU)(ones)
    places = range(0, len(network), 397)
    found = 0
    for place in places:
        file.write_bytes(network[:place] + bytes([network[place] ^ 4]) + network[place + 1 :])
        try:
            network_as_read = load_inception(file, CPU)
        except InputError:
            found += 1
        else:  # padding between the members of the archive carries nothing
            assert torch.equal(network_as_read(ones), whole)
    assert found > 0.8 * len(places)
