import base64
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import torch

from ddpmkit.contracts import Scores, StepRecord
from ddpmkit.report import write_report
from ddpmkit.rundir import RunFolder
from ddpmkit.sampling.pictures import grid, save_png

LOCK = """name = {name}
[data]
use = "critters"
image_size = 32
classes = ["cat"]
[diffusion]
timesteps = 50
[train]
steps = 20
[lock]
dataset_fingerprint = "abc123"
versions = {{ torch = "2.15.0" }}
distributions = {{ ddpmkit-acme = "1.2.0" }}
"""


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "line", "polyline", "circle"):
            self.open.append(tag)
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.text += data


def read(folder: RunFolder) -> Reader:
    reader = Reader()
    reader.feed(write_report(folder.path).read_text(encoding="utf-8"))
    return reader


def a_run(path: Path, name: str = '"cats"') -> RunFolder:
    folder = RunFolder(path)
    folder.create()
    folder.lock.write_text(LOCK.format(name=name))
    for step in (10, 20):
        folder.append("step", asdict(StepRecord(step, 0.5 / step, (0.1, None, 0.2, 0.3), 1.0, 1e-3, 90.0, 0.1234)))
        save_png(grid(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)), folder.samples(step))
    for strip in ("forward", "backward"):
        save_png(grid(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)), folder.visualization(strip))
    facts = {"extractor SHA-256": "f00d"}
    scores = Scores(
        20, "clean-fid", "original", False, 512, 4653, {"fid": 150.85}, {"fid": 4.2}, {"fid": "lower"}, facts
    )
    folder.append("scores", asdict(scores))
    return folder


def test_the_page_tells_what_was_done_and_what_came_of_it(tmp_path: Path) -> None:
    page = read(a_run(tmp_path))
    for told in (
        "20 of 20 steps",
        "critters (cat)",
        "T = 50",
        "Validation loss 0.1234",
        "150.85",
        "4.20",
        "512",
        "4,653",
    ):
        assert told in page.text
    for told in ("not comparable with other scores", "f00d", "ddpmkit-acme", "1.2.0", "abc123", "ddpmkit sample"):
        assert told in page.text


def test_the_page_stands_alone(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    page = read(folder)
    assert len(page.sources) == 5
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert base64.b64decode(page.sources[0].partition(",")[2]) == folder.samples(20).read_bytes()
    assert "http" not in folder.report.read_text()


def test_names_from_outside_cannot_become_markup(tmp_path: Path) -> None:
    folder = a_run(tmp_path, name='"<script>alert(1)</script>"')
    page = read(folder)
    assert "<script>" not in folder.report.read_text()
    assert "<script>alert(1)</script>" in page.text


def test_a_folder_with_nothing_in_it_yet_still_gives_a_page(tmp_path: Path) -> None:
    page = read(RunFolder(tmp_path))
    assert "No step has been recorded yet" in page.text
    assert page.sources == []
