"""Downloads from real servers that interrupt, stall, send wrong headers or errors, and by killed processes."""

import hashlib
import http.server
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ddpmkit import download as downloading
from ddpmkit.download import download
from ddpmkit.errors import InputError

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the content of the server and ranges of it, after the failures in `responses`."""

    server: "Server"

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requested.append(wanted)
        condition = self.headers.get("If-Range")
        holds = condition is None or condition in self.server.validators.values()
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and holds else 0
        answer = self.server.responses.pop(0) if self.server.responses else honest
        answer(self, start)

    def send(self, status: int, headers: dict[str, object], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


Response = Callable[[Handler, int], None]
PART = ["file.bin.part", "file.bin.part.json"]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/file.bin"
        self.content = CONTENT
        self.validators = {"ETag": '"one"'}
        self.requested: list[str | None] = []
        self.responses: list[Response] = []


def honest(handler: Handler, start: int, end: int | None = None) -> None:
    """The content from `start` on; sends only the bytes before `end` of what the header promises."""
    content = handler.server.content
    if start >= len(content):
        handler.send_error(416)
        return
    headers: dict[str, object] = {"Content-Length": len(content) - start, **handler.server.validators}
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    handler.send(206 if start else 200, headers, content[start:end])


def cut_at(end: int) -> Response:
    return lambda handler, start: honest(handler, start, end)


def without_ranges(handler: Handler, start: int) -> None:
    honest(handler, 0)


def silent_after(end: int) -> Response:
    def answer(handler: Handler, start: int) -> None:
        honest(handler, start, end)
        never(handler, start)

    return answer


def never(handler: Handler, start: int) -> None:
    time.sleep(60)


def slowly(handler: Handler, start: int) -> None:
    honest(handler, start, start)
    for place in range(start, len(CONTENT), 1 << 16):
        handler.wfile.write(CONTENT[place : place + (1 << 16)])
        time.sleep(0.1)


def chunked_and_cut(handler: Handler, start: int) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.send(200, {"Transfer-Encoding": "chunked"}, b"%x\r\n%s\r\n" % (100_000, CONTENT[:100_000]))
    handler.close_connection = True


def says(status: int, **headers: object) -> Response:
    """This status and these headers, with the second half of the content as body; _ means -."""
    body = CONTENT[len(CONTENT) // 2 :]
    fields = {"Content_Length": len(body), **headers}
    return lambda handler, start: handler.send(
        status, {name.replace("_", "-"): value for name, value in fields.items() if value is not None}, body
    )


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "_TIMEOUT", 0.3)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def leave_part(server: Server, folder: Path) -> None:
    """The first 100,000 bytes of an interrupted download."""
    server.responses.insert(0, cut_at(100_000))
    with pytest.raises(InputError, match="ended after 100,000 of"):
        download(server.url, folder / "file.bin")
    server.requested.clear()


def test_a_file_is_downloaded_with_its_progress(server: Server, tmp_path: Path) -> None:
    reported: list[tuple[int, int | None]] = []
    place = download(
        server.url, tmp_path / "deep" / "file.bin", progress=lambda here, total: reported.append((here, total))
    )
    assert place.read_bytes() == CONTENT
    assert reported[-1] == (len(CONTENT), len(CONTENT))
    assert names(place.parent) == ["file.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_never_taken_for_complete_and_is_continued(
    server: Server, tmp_path: Path, ranges: bool
) -> None:
    server.responses = [cut_at(100_000), honest if ranges else without_ranges]
    with pytest.raises(InputError, match=r"ended after 100,000 of 1,048,576 bytes") as caught:
        download(server.url, tmp_path / "file.bin")
    assert caught.value.remedies[0].endswith(f"it continues {tmp_path / 'file.bin.part'}")
    assert names(tmp_path) == PART
    assert (tmp_path / "file.bin.part").stat().st_size == 100_000
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]
    assert server.requested == [None, "bytes=100000-"]


def test_a_download_interrupted_many_times_is_completed(server: Server, tmp_path: Path) -> None:
    server.responses = [cut_at(end) for end in range(70_000, 1_000_000, 70_000)]
    for _ in list(server.responses):
        with pytest.raises(InputError, match="transfer ended"):
            download(server.url, tmp_path / "file.bin", sha256=DIGEST)
        assert names(tmp_path) == PART
    assert download(server.url, tmp_path / "file.bin", sha256=DIGEST).read_bytes() == CONTENT


def test_an_interrupted_download_without_a_length_is_not_taken_for_complete(server: Server, tmp_path: Path) -> None:
    server.responses = [chunked_and_cut]
    with pytest.raises(InputError, match="IncompleteRead") as caught:
        download(server.url, tmp_path / "file.bin")
    assert names(tmp_path) == []  # there was no validator
    assert "continues" not in str(caught.value)
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.usefixtures("impatient")
def test_a_server_that_stops_sending_is_an_error_and_the_partial_file_stays(server: Server, tmp_path: Path) -> None:
    server.responses = [silent_after(100_000), never]
    for answer in ("sends nothing more", "sends nothing at all"):
        began = time.monotonic()
        with pytest.raises(InputError, match="timed out") as caught:
            download(server.url, tmp_path / "file.bin")
        assert time.monotonic() - began < 2, answer
        assert "same command again" in str(caught.value)
        assert (tmp_path / "file.bin.part").stat().st_size == 100_000
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.requested == [None, "bytes=100000-", "bytes=100000-"]


@pytest.mark.parametrize(
    "wrong",
    [
        says(206, Content_Range="bytes 524288-1048575/1048576"),
        says(206),
        says(206, Content_Range="bytes what-ever/you want"),
        says(204),
    ],
    ids=["another part", "some part", "nonsense", "no content"],
)
def test_a_range_that_was_not_requested_is_not_appended(server: Server, tmp_path: Path, wrong: Response) -> None:
    leave_part(server, tmp_path)
    server.responses = [wrong]
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.requested == ["bytes=100000-", None]
    # A range is not a response to a request without a range.
    server.responses = [wrong]
    with pytest.raises(InputError, match="instead of the complete file"):
        download(server.url, tmp_path / "other.bin")
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("length", ["-5", "many", "9" * 5000])
def test_an_invalid_length_is_ignored(server: Server, tmp_path: Path, length: str) -> None:
    server.responses = [lambda handler, _start: handler.send(200, {"Content-Length": length}, CONTENT)]
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_complete_partial_file_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    leave_part(server, tmp_path)
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]
    assert server.requested == []


BY_DATE = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
LATER = {"Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"}


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) - 7, 100_000, 50_000])
@pytest.mark.parametrize(
    ("before", "after"),
    [({"ETag": '"one"'}, {"ETag": '"two"'}), (BY_DATE, LATER), ({"ETag": '"one"'}, BY_DATE), ({"ETag": '"one"'}, {})],
    ids=["by its tag", "by its date", "a tag before, a date now", "a tag before, nothing now"],
)
@pytest.mark.parametrize("heeds", [True, False], ids=["If-Range heeded", "If-Range ignored"])
def test_a_part_is_never_joined_to_another_version(
    server: Server, tmp_path: Path, before: dict[str, str], after: dict[str, str], heeds: bool, length: int
) -> None:
    server.validators = before
    leave_part(server, tmp_path)
    server.content, server.validators = bytes(reversed(CONTENT))[:length], after
    if not heeds:
        server.responses = [lambda handler, _start: honest(handler, 100_000)]
    assert download(server.url, tmp_path / "file.bin").read_bytes() == server.content
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize(
    "validators",
    [{}, {"ETag": 'W/"one"'}, {"Last-Modified": "Mon, 01 Jan 2524 00:00:00 GMT"}, {"Last-Modified": "yesterday"}],
    ids=["none", "a weak tag", "a date that may come again", "no date"],
)
def test_without_a_strong_validator_a_download_starts_again(
    server: Server, tmp_path: Path, validators: dict[str, str]
) -> None:
    server.validators = validators
    leave_part(server, tmp_path)
    assert names(tmp_path) == []
    server.content = bytes(reversed(CONTENT))
    assert download(server.url, tmp_path / "file.bin").read_bytes() == server.content
    assert server.requested == [None]


@pytest.mark.parametrize("validators", [{"ETag": '"one"'}, {"ETag": "bare"}, BY_DATE], ids=str)
def test_a_part_of_the_same_version_is_continued(server: Server, tmp_path: Path, validators: dict[str, str]) -> None:
    server.validators = validators
    leave_part(server, tmp_path)
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.requested == ["bytes=100000-"]


def test_a_part_from_another_url_is_not_continued(server: Server, tmp_path: Path) -> None:
    leave_part(server, tmp_path)
    server.content = bytes(reversed(CONTENT))  # with the same ETag, which is valid for one URL only
    assert download(f"{server.url}?mirror", tmp_path / "file.bin").read_bytes() == server.content
    assert server.requested == [None]


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"url": 1}', '"one"', "[" * 100_000])
def test_a_part_of_an_unknown_version_is_not_continued(server: Server, tmp_path: Path, text: str | None) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"half of another file")
    if text is not None:
        (tmp_path / "file.bin.part.json").write_text(text)
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.requested == [None]
    assert names(tmp_path) == ["file.bin"]


def test_a_file_with_another_digest_is_deleted(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the expected file"):
        download(server.url, tmp_path / "file.bin", sha256="0" * 64)
    assert names(tmp_path) == []
    assert download(server.url, tmp_path / "file.bin", sha256=DIGEST).exists()


def test_an_existing_file_stays_if_its_digest_is_right_and_is_replaced_if_not(server: Server, tmp_path: Path) -> None:
    place = tmp_path / "file.bin"
    place.write_bytes(b"by hand")
    assert download(server.url, place).read_bytes() == b"by hand"
    assert server.requested == []
    assert download(server.url, place, sha256=DIGEST).read_bytes() == CONTENT
    assert download(server.url, place, sha256=DIGEST).read_bytes() == CONTENT
    assert server.requested == [None]


def test_a_redirect_is_followed_and_a_redirect_loop_is_an_error(server: Server, tmp_path: Path) -> None:
    server.responses = [says(302, Location=server.url)]
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    server.responses = [says(302, Location=server.url) for _ in range(30)]
    with pytest.raises(InputError, match="HTTP 302"):
        download(server.url, tmp_path / "other.bin")
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_an_http_error_has_its_code_and_leaves_nothing(server: Server, tmp_path: Path, status: int) -> None:
    server.responses = [lambda handler, _start: handler.send_error(status)]
    with pytest.raises(InputError, match=f"HTTP {status}") as caught:
        download(server.url, tmp_path / "file.bin")
    assert caught.value.remedies == (() if status == 404 else ("try again later",))
    assert names(tmp_path) == []


def test_an_unreachable_server_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with socket.socket() as bound:  # a port that nothing listens on
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/file.bin"
        with pytest.raises(InputError, match="cannot be downloaded") as caught:
            download(url, tmp_path / "file.bin")
    assert caught.value.message == f"{url} cannot be downloaded: Connection refused."
    assert "same command again" in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("address", ["example.org/file", "http://", "", "http://127.0.0.1:port/x", "http://a b/\n"])
def test_an_invalid_url_is_an_error(tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match="cannot be downloaded"):
        download(address, tmp_path / "file.bin")
    assert names(tmp_path) == []


def test_a_full_disk_is_an_error_and_the_download_is_continued_later(server: Server, tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    with pytest.raises(InputError, match=r"file\.bin\.part cannot be written: File too large") as caught:
        download(server.url, tmp_path / "file.bin", sha256=DIGEST)
    assert caught.value.remedies[0].startswith("free some space")
    assert names(tmp_path) == PART
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    download(server.url, tmp_path / "file.bin", sha256=DIGEST)
    assert server.requested == [None, "bytes=300000-"]


DOWNLOAD = """
import logging, sys, time
from pathlib import Path
from ddpmkit.download import download
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
download(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3])
"""


def process(server: Server, place: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", DOWNLOAD, server.url, str(place), DIGEST]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_of_three_processes_one_downloads_and_the_others_wait(server: Server, tmp_path: Path) -> None:
    server.responses = [slowly]
    processes = [process(server, tmp_path / "file.bin") for _ in range(3)]
    output = {process.communicate(timeout=30)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert output <= {"", f"another process is using {tmp_path / 'file.bin'}; waiting for it.\n"}
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]
    assert server.requested == [None]


def test_a_waiting_process_continues_the_download_of_a_killed_one(server: Server, tmp_path: Path) -> None:
    server.responses = [silent_after(200_000)]
    part = tmp_path / "file.bin.part"
    first = process(server, tmp_path / "file.bin")
    wait_for(lambda: part.exists() and part.stat().st_size == 200_000)
    second = process(server, tmp_path / "file.bin")
    assert second.stdout is not None
    assert "waiting" in second.stdout.readline()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second.communicate(timeout=30)
    assert second.returncode == 0
    assert names(tmp_path) == ["file.bin"]
    assert server.requested == [None, "bytes=200000-"]
