import functools
import http.server
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddpmkit.data.fetch import fetch_afhq
from ddpmkit.errors import InputError


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    handler = functools.partial(Handler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def serve(tmp_path: Path, *names: str) -> None:
    """An archive in which the content of every file is its name."""
    with zipfile.ZipFile(tmp_path / "served" / "afhq.zip", "w") as file:
        for name in names:
            file.writestr(name, name)


@pytest.mark.parametrize(
    ("version", "names"),
    [
        (1, ("afhq/train/cat/1.jpg", "afhq/train/dog/1.jpg", "afhq/val/cat/2.jpg")),
        (2, ("train/cat/1.jpg", "train/dog/1.jpg", "test/cat/2.jpg")),
    ],
)
def test_both_versions_get_the_same_layout(tmp_path: Path, server: str, version: int, names: tuple[str, ...]) -> None:
    serve(tmp_path, *names)
    folder = fetch_afhq(tmp_path / "data" / "afhq", version, url=f"{server}/afhq.zip")
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))
    assert found == ["train/cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg"]
    assert [path.name for path in folder.parent.iterdir()] == ["afhq"]


@pytest.mark.parametrize(
    "names",
    [
        ("train", "afhq/train/cat/1.jpg", "afhq/val/cat/2.jpg"),
        ("a/train/cat/1.jpg", "a/val/cat/2.jpg", "a/test/cat/3.jpg"),
        ("train/cat/1.jpg", "val/cat/2.jpg", "train/train/train/x.jpg", "__MACOSX/val/cat/3.jpg"),
    ],
)
def test_other_files_in_the_archive_are_ignored(tmp_path: Path, server: str, names: tuple[str, ...]) -> None:
    serve(tmp_path, *names)
    folder = fetch_afhq(tmp_path / "data" / "afhq", url=f"{server}/afhq.zip")
    assert sorted(path.name for path in folder.iterdir()) == ["train", "val"]
    assert [path.name for path in (folder / "train" / "cat").iterdir()] == ["1.jpg"]
    assert [path.name for path in (folder / "val" / "cat").iterdir()] == ["2.jpg"]


def test_an_existing_split_is_not_changed(tmp_path: Path, server: str) -> None:
    serve(tmp_path, "train/cat/1.jpg", "val/cat/2.jpg")
    mine = tmp_path / "data" / "afhq" / "train" / "mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.touch()
    folder = fetch_afhq(tmp_path / "data" / "afhq", url=f"{server}/afhq.zip")
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))
    assert found == ["train/mine.jpg", "val/cat/2.jpg"]


def test_an_existing_dataset_is_not_downloaded_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "val"):
        (tmp_path / "afhq" / split).mkdir(parents=True)
    assert fetch_afhq(tmp_path / "afhq", url="http://127.0.0.1:1/nobody") == tmp_path / "afhq"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"{tmp_path / 'afhq'} already contains train/ and val/: nothing was downloaded"
    ]


def test_an_error_page_in_place_of_the_archive_is_an_error_and_leaves_no_dataset(tmp_path: Path, server: str) -> None:
    (tmp_path / "served" / "afhq.zip").write_text("<html>Too many requests</html>")
    with pytest.raises(InputError, match="did not send a zip archive"):
        fetch_afhq(tmp_path / "data" / "afhq", url=f"{server}/afhq.zip")
    assert list((tmp_path / "data").iterdir()) == []


def test_an_archive_with_other_contents_is_an_error(tmp_path: Path, server: str) -> None:
    serve(tmp_path, "afhq/readme.txt")
    with pytest.raises(InputError, match="no train/<class> folders"):
        fetch_afhq(tmp_path / "data" / "afhq", url=f"{server}/afhq.zip")
    assert not (tmp_path / "data" / "afhq").exists()


def test_a_missing_file_is_an_error_with_the_http_code(tmp_path: Path, server: str) -> None:
    with pytest.raises(InputError, match="404"):
        fetch_afhq(tmp_path / "data" / "afhq", url=f"{server}/afhq.zip")


def test_a_damaged_archive_is_named_and_leaves_no_dataset(tmp_path: Path, server: str) -> None:
    serve(tmp_path, *(f"train/cat/{number}.jpg" for number in range(20)), "val/cat/1.jpg")
    file = tmp_path / "served" / "afhq.zip"
    content = bytearray(file.read_bytes())
    content[content.index(b"train/cat/11.jpg") + 20] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"afhq_v1\.zip is damaged") as caught:
        fetch_afhq(tmp_path / "data" / "afhq", url=f"{server}/afhq.zip")
    archive = tmp_path / "data" / ".afhq.partial" / "afhq_v1.zip"
    assert caught.value.remedies == (f"remove {archive}",)
    assert list((tmp_path / "data").rglob("*")) == [archive.parent, archive]


FETCH = "import sys; from pathlib import Path; from ddpmkit.data.fetch import fetch_afhq; "
FETCH += "fetch_afhq(Path(sys.argv[1]), url=sys.argv[2])"
KILLED_BEFORE_THE_ARCHIVE_IS_DELETED = """
import os, shutil, signal
def rmtree(path, remove=shutil.rmtree, **options):
    if str(path).endswith(".afhq.partial"):
        os.kill(os.getpid(), signal.SIGKILL)
    remove(path, **options)
shutil.rmtree = rmtree
"""
KILLED_AT_THE_100TH_FILE = """
import os, signal, zipfile
extract, done = zipfile.ZipFile._extract_member, []
def counted(*args):
    done.append(args)
    if len(done) == 100:
        os.kill(os.getpid(), signal.SIGKILL)
    return extract(*args)
zipfile.ZipFile._extract_member = counted
"""


def process(code: str, address: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code, str(folder), address], stderr=subprocess.PIPE, text=True)


def test_a_kill_while_extracting_leaves_no_dataset_and_the_next_fetch_completes_it(tmp_path: Path, server: str) -> None:
    names = [f"train/cat/{number}.jpg" for number in range(200)]
    serve(tmp_path, *names, "val/cat/1.jpg")
    folder = tmp_path / "data" / "afhq"
    killed = process(KILLED_AT_THE_100TH_FILE + FETCH, f"{server}/afhq.zip", folder)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(path.name for path in folder.parent.iterdir()) == [".afhq.lock", ".afhq.partial"]
    assert len(list((tmp_path / "data").rglob("*.jpg"))) == 99
    fetch_afhq(folder, url="http://127.0.0.1:1/the-archive-is-here-already")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg")) == sorted([*names, "val/cat/1.jpg"])
    assert list(folder.parent.iterdir()) == [folder]


def test_the_archive_of_a_process_killed_after_extracting_it_is_deleted(tmp_path: Path, server: str) -> None:
    serve(tmp_path, "train/cat/1.jpg", "val/cat/1.jpg")
    folder = tmp_path / "data" / "afhq"
    mine = tmp_path / "data" / "afhq_v1.zip"
    mine.parent.mkdir()
    mine.write_bytes(b"an archive that someone keeps there")
    killed = process(KILLED_BEFORE_THE_ARCHIVE_IS_DELETED + FETCH, f"{server}/afhq.zip", folder)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "data" / ".afhq.partial").iterdir()] == ["afhq_v1.zip"]
    fetch_afhq(folder, url="http://127.0.0.1:1/the-images-are-here-already")
    assert sorted(folder.parent.iterdir()) == [folder, mine]


def test_half_of_one_archive_is_never_joined_to_half_of_another(tmp_path: Path) -> None:
    """Uncompressed archives of equal length: a joint of two would be inside an image, with a valid structure."""
    archives = {}
    for letter in (b"A", b"B"):
        with zipfile.ZipFile(tmp_path / "archive.zip", "w") as file:
            file.writestr(zipfile.ZipInfo("train/cat/1.jpg"), letter * 500_000)
            file.writestr(zipfile.ZipInfo("val/cat/1.jpg"), letter)
        archives[letter] = (tmp_path / "archive.zip").read_bytes()

    class Replaced(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content, cut = (archives[b"A"], 200_000) if not asked else (archives[b"B"], None)
            asked.append(self.headers.get("If-Range"))
            # A server that supports Range but not If-Range.
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{len(asked)}"')
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            self.wfile.write(content[start:cut])

        def log_message(self, format: str, *args: object) -> None:
            pass

    asked: list[str | None] = []
    folder = tmp_path / "data" / "afhq"
    with http.server.HTTPServer(("127.0.0.1", 0), Replaced) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/afhq.zip"
        with pytest.raises(InputError, match="transfer ended"):
            fetch_afhq(folder, url=url)
        fetch_afhq(folder, url=url)
        server.shutdown()
        thread.join()
    assert asked == [None, '"1"', None]
    assert (folder / "train" / "cat" / "1.jpg").read_bytes() == b"B" * 500_000


def test_two_processes_create_one_dataset(tmp_path: Path, server: str) -> None:
    names = [f"train/cat/{number}.jpg" for number in range(2_000)]
    serve(tmp_path, *names, "val/cat/1.jpg")
    folder = tmp_path / "data" / "afhq"
    processes = [process(FETCH, f"{server}/afhq.zip", folder) for _ in range(2)]
    output = {process.communicate(timeout=60)[1] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    waits = f"another process is using {folder}; waiting for it.\n"
    finds = f"{folder} already contains train/ and val/: nothing was downloaded\n"
    assert output in ({"", finds}, {"", waits + finds})
    assert len(list(folder.rglob("*.jpg"))) == 2_001
    assert list(folder.parent.iterdir()) == [folder]
