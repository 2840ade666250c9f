import functools
import http.server
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
def test_both_layouts_arrive_as_one(tmp_path: Path, server: str, version: int, names: tuple[str, ...]) -> None:
    serve(tmp_path, *names)
    folder = fetch_afhq(tmp_path / "data" / "afhq", version, url=f"{server}/afhq.zip")
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))
    assert found == ["train/cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg"]
    assert [path.name for path in folder.parent.iterdir()] == ["afhq"]


def test_what_is_there_already_is_not_fetched_again(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "afhq" / split).mkdir(parents=True)
    assert fetch_afhq(tmp_path / "afhq", url="http://127.0.0.1:1/nobody") == tmp_path / "afhq"


def test_an_error_page_in_place_of_the_archive_is_said_and_leaves_no_dataset(tmp_path: Path, server: str) -> None:
    (tmp_path / "served" / "afhq.zip").write_text("<html>Too many requests</html>")
    with pytest.raises(InputError, match="is no zip archive"):
        fetch_afhq(tmp_path / "data" / "afhq", url=f"{server}/afhq.zip")
    assert not (tmp_path / "data" / "afhq").exists()


def test_an_archive_of_other_things_is_said(tmp_path: Path, server: str) -> None:
    serve(tmp_path, "afhq/readme.txt")
    with pytest.raises(InputError, match="no train/<class> folders"):
        fetch_afhq(tmp_path / "data" / "afhq", url=f"{server}/afhq.zip")
    assert not (tmp_path / "data" / "afhq").exists()


def test_a_missing_file_is_told_with_the_answer_of_the_server(tmp_path: Path, server: str) -> None:
    with pytest.raises(InputError, match="404"):
        fetch_afhq(tmp_path / "data" / "afhq", url=f"{server}/afhq.zip")
