import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddpmkit.download import download
from ddpmkit.errors import InputError

CONTENT = bytes(range(256)) * 4096


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT, and misbehaves as told."""

    ranges = True
    cut_at: int | None = None
    status = 200
    requested: list[str | None]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requested.append(wanted)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.server.cut_at is None else body[: self.server.cut_at])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.requested = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/file.bin"


def test_a_file_comes_whole_with_its_progress_told(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    place = download(
        url(server), tmp_path / "deep" / "file.bin", progress=lambda here, total: told.append((here, total))
    )
    assert place.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in place.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_cut_short_is_never_taken_for_whole_and_goes_on(
    server: Server, tmp_path: Path, ranges: bool
) -> None:
    server.cut_at, server.ranges = 100_000, ranges
    with pytest.raises(InputError, match=r"broke off|IncompleteRead"):
        download(url(server), tmp_path / "file.bin")
    assert not (tmp_path / "file.bin").exists()
    here = (tmp_path / "file.bin.part").stat().st_size
    assert here == 100_000
    server.cut_at = None
    assert download(url(server), tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.requested == [None, "bytes=100000-"]


def test_a_part_that_is_the_whole_already_is_asked_for_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert download(url(server), tmp_path / "file.bin").read_bytes() == CONTENT


def test_another_file_than_expected_is_thrown_away(server: Server, tmp_path: Path) -> None:
    right = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(InputError, match="not the file that was expected"):
        download(url(server), tmp_path / "file.bin", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []
    assert download(url(server), tmp_path / "file.bin", sha256=right).exists()


@pytest.mark.parametrize("status", [404, 500])
def test_a_refusal_is_told_with_its_number(server: Server, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(InputError, match=f"answers {status}"):
        download(url(server), tmp_path / "file.bin")


def test_nobody_there_is_told_with_the_way_on(server: Server, tmp_path: Path) -> None:
    address = url(server)
    server.server_close()
    with pytest.raises(InputError, match="cannot be downloaded") as caught:
        download(address, tmp_path / "file.bin")
    assert "same command again" in str(caught.value)
