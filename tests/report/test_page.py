import base64
import io
import shlex
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import torch
from PIL import Image

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
batch_size = 32
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
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "line", "polyline", "circle"):
            self.open.append(tag)
        self.sources += [value or "" for name, value in attributes if name == "src"]
        self.links += [value or "" for name, value in attributes if name == "href"]

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
        folder.log.append("step", asdict(StepRecord(step, 0.5 / step, (0.1, None, 0.2, 0.3), 1.0, 1e-3, 90.0, 0.1234)))
        save_png(grid(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)), folder.samples(step))
    for strip in ("forward", "backward"):
        save_png(grid(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)), folder.visualization(strip))
    facts = {"extractor SHA-256": "f00d"}
    scores = Scores(
        20, "clean-fid", "original", False, 512, 4653, {"fid": 150.85}, {"fid": 4.2}, {"fid": "lower"}, facts
    )
    folder.log.append("scores", asdict(scores))
    return folder


def test_the_page_tells_what_was_done_and_what_came_of_it(tmp_path: Path) -> None:
    page = read(a_run(tmp_path))
    for told in (
        "cat pictures (critters, 32 x 32 px), trained for 20 steps",
        "T = 50",
        "validation loss 0.1234",
        "150.8",
        "4.2",
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
    assert all(source.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for source in page.sources)
    assert base64.b64decode(page.sources[0].partition(",")[2]) == folder.samples(20).read_bytes()
    text = folder.report.read_text()
    assert [external for external in ("<link", "<script", "@import", "url(") if external in text] == []
    assert [link for link in page.links if link.startswith("http")] == ["https://arxiv.org/abs/2006.11239"]


def test_every_grid_has_a_thumbnail_that_leads_to_it(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    save_png(grid(torch.zeros(100, 3, 32, 32, dtype=torch.uint8)), folder.samples(20))
    page = read(folder)
    assert [link for link in page.links if not link.startswith("http")] == [
        "samples/step-00000010.png",
        "samples/step-00000020.png",
    ]
    small = Image.open(io.BytesIO(base64.b64decode(page.sources[2].partition(",")[2])))
    assert small.size == (320, 320)


def test_a_run_with_very_many_grids_shows_some_of_them_the_first_and_the_last_included(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    for step in range(30, 1010, 10):
        save_png(grid(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)), folder.samples(step))
    shown = [link for link in read(folder).links if link.startswith("samples/")]
    assert len(shown) == len(set(shown)) == 24
    assert (shown[0], shown[-1]) == ("samples/step-00000010.png", "samples/step-00001000.png")


def test_each_protocol_tells_its_own_rules(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    scores = Scores(20, "clean-fid", "standard", True, 10_000, 4653, {"kid": 0.00123}, {}, {}, {"resize": "bicubic"})
    folder.log.append("scores", asdict(scores))
    text = read(folder).text
    assert text.index("clean-fid, original protocol") < text.index("f00d") < text.index("clean-fid, standard protocol")
    assert text.index("clean-fid, standard protocol") < text.index("bicubic")
    assert "0.00123" in text
    assert text.count("not comparable with other scores") == 1


def test_the_commands_can_be_pasted_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "my cats")
    commands = [shlex.split(line) for line in read(folder).text.splitlines() if line.startswith("ddpmkit ")]
    assert [command[:3] for command in commands] == [
        ["ddpmkit", "sample", str(folder.path)],
        ["ddpmkit", "evaluate", str(folder.path)],
        ["ddpmkit", "run", str(folder.lock)],
        ["ddpmkit", "run", str(folder.lock)],
    ]


def test_the_commands_name_the_plugins_that_are_files(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    folder.lock.write_text(folder.lock.read_text().replace("{ ddpm", '{ "my zig.py" = "sha256:0123", ddpm'))
    commands = [shlex.split(line) for line in read(folder).text.splitlines() if line.startswith("ddpmkit ")]
    assert [command[-2:] for command in commands] == [["--plugin", "my zig.py"]] * 4


def test_names_from_outside_cannot_become_markup(tmp_path: Path) -> None:
    folder = a_run(tmp_path, name='"<script>alert(1)</script>"')
    page = read(folder)
    assert "<script>" not in folder.report.read_text()
    assert "<script>alert(1)</script>" in page.text


def test_a_folder_with_nothing_in_it_yet_still_gives_a_page(tmp_path: Path) -> None:
    page = read(RunFolder(tmp_path))
    assert "No step has been recorded yet" in page.text
    assert page.sources == []
    assert "ddpmkit sample" not in page.text


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create()
    folder.log.append("step", asdict(StepRecord(10, 0.5, (None, None, None, None), 1.0, 1e-3, 90.0)))
    page = read(folder)
    assert "trained for 10 steps." in page.text
    assert "Learning rate" in page.text
    for absent in ("Scores", "Loss by quarter", "validation loss", "Into the noise", "Recipe", "Made with"):
        assert absent not in page.text
