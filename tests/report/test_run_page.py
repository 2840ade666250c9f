import base64
import io
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ddpmkit.contracts import Scores, StepRecord
from ddpmkit.report import write_report
from ddpmkit.run_folder import RunFolder
from ddpmkit.sampling.image_grid import grid, save_png

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
[[metric]]
use = "clean-fid"
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


def read(folder: RunFolder, skipped_metrics: Sequence[str] = ()) -> Reader:
    reader = Reader()
    reader.feed(write_report(folder.path, skipped_metrics).read_text(encoding="utf-8"))
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


def test_the_page_shows_the_run_and_its_results(tmp_path: Path) -> None:
    page = read(a_run(tmp_path))
    for expected in (
        "cat images (critters, 32 x 32 px), trained for 20 steps",
        "T = 50",
        "validation loss 0.1234",
        "150.8",
        "4.2",
        "512",
        "4,653",
    ):
        assert expected in page.text
    for expected in ("not comparable with other scores", "f00d", "ddpmkit-acme", "1.2.0", "abc123", "ddpmkit sample"):
        assert expected in page.text


def test_the_page_needs_no_other_files(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    page = read(folder)
    assert len(page.sources) == 5
    assert all(source.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for source in page.sources)
    assert base64.b64decode(page.sources[0].partition(",")[2]) == folder.samples(20).read_bytes()
    text = folder.report.read_text()
    assert [external for external in ("<link", "<script", "@import", "url(") if external in text] == []
    assert [link for link in page.links if link.startswith("http")] == ["https://arxiv.org/abs/2006.11239"]


def test_every_grid_has_a_thumbnail_that_links_to_it(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    save_png(grid(torch.zeros(100, 3, 32, 32, dtype=torch.uint8)), folder.samples(20))
    page = read(folder)
    assert [link for link in page.links if not link.startswith("http")] == [
        "samples/step-00000010.png",
        "samples/step-00000020.png",
    ]
    small = Image.open(io.BytesIO(base64.b64decode(page.sources[2].partition(",")[2])))
    assert small.size == (320, 320)


def test_of_many_grids_some_are_shown_including_the_first_and_the_last(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    for step in range(30, 1010, 10):
        save_png(grid(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)), folder.samples(step))
    shown = [link for link in read(folder).links if link.startswith("samples/")]
    assert len(shown) == len(set(shown)) == 24
    assert (shown[0], shown[-1]) == ("samples/step-00000010.png", "samples/step-00001000.png")


def test_each_protocol_shows_its_own_facts(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    scores = Scores(20, "clean-fid", "standard", True, 10_000, 4653, {"kid": 0.00123}, {}, {}, {"resize": "bicubic"})
    folder.log.append("scores", asdict(scores))
    text = read(folder).text
    assert text.index("clean-fid, original protocol") < text.index("f00d") < text.index("clean-fid, standard protocol")
    assert text.index("clean-fid, standard protocol") < text.index("bicubic")
    assert "0.00123" in text
    assert text.count("not comparable with other scores") == 1


def test_the_commands_are_quoted_for_the_shell(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "my cats")
    commands = [shlex.split(line) for line in read(folder).text.splitlines() if line.startswith("ddpmkit ")]
    assert [command[:3] for command in commands] == [
        ["ddpmkit", "sample", str(folder.path)],
        ["ddpmkit", "evaluate", str(folder.path)],
        ["ddpmkit", "run", str(folder.lock)],
        ["ddpmkit", "run", str(folder.lock)],
    ]


def test_a_skipped_metric_is_named_and_not_offered(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    text = read(folder, ["clean-fid"]).text
    assert "clean-fidskipped: it was not available on this machine" in text
    assert "ddpmkit evaluate" not in text


def test_the_metrics_that_were_not_skipped_are_offered(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    folder.lock.write_text(folder.lock.read_text().replace("[lock]", '[[metric]]\nuse = "fd"\n[lock]'))
    assert f"ddpmkit evaluate {folder.path} --skip-unavailable-metrics\n" in read(folder, ["clean-fid"]).text


def test_the_commands_contain_the_plugin_files(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    folder.lock.write_text(folder.lock.read_text().replace("{ ddpm", '{ "my zig.py" = "sha256:0123", ddpm'))
    commands = [shlex.split(line) for line in read(folder).text.splitlines() if line.startswith("ddpmkit ")]
    assert [command[-2:] for command in commands] == [["--plugin", "my zig.py"]] * 4


def test_names_from_outside_cannot_become_markup(tmp_path: Path) -> None:
    folder = a_run(tmp_path, name='"<script>alert(1)</script>"')
    page = read(folder)
    assert "<script>" not in folder.report.read_text()
    assert "<script>alert(1)</script>" in page.text


def test_an_empty_folder_gives_a_page(tmp_path: Path) -> None:
    page = read(RunFolder(tmp_path))
    assert "No step has been recorded yet" in page.text
    assert page.sources == []
    assert "ddpmkit sample" not in page.text


def test_missing_parts_are_skipped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create()
    folder.log.append("step", asdict(StepRecord(10, 0.5, (None, None, None, None), 1.0, 1e-3, 90.0)))
    page = read(folder)
    assert "trained for 10 steps." in page.text
    assert "Learning rate" in page.text
    for absent in ("Scores", "Loss by quarter", "validation loss", "Forward and reverse", "Recipe", "Versions"):
        assert absent not in page.text


@pytest.mark.parametrize(
    "lock",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"train = 1",
        b'[data]\nimage_size = "large"',
        b'[train]\nsteps = "many"',
        b"name = 7",
        b"[[data]]\n",
        b"lock = 3",
        b'metric = ["fd"]',
    ],
)
def test_a_damaged_lock_file_loses_only_its_own_content(
    tmp_path: Path, lock: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    folder = a_run(tmp_path)
    folder.lock.write_bytes(lock)
    page = read(folder)
    assert "trained for 20" in page.text
    assert "150.8" in page.text
    assert len(page.sources) == 5
    if lock and lock != b"lock = 3":
        assert "does not contain the recipe" in caplog.text


@pytest.mark.parametrize("kind", ["a link", "a pipe", "a folder"])
def test_a_lock_that_is_not_a_file_is_skipped(tmp_path: Path, kind: str) -> None:
    folder = a_run(tmp_path / "run")
    outside = folder.lock.rename(tmp_path / "outside")
    make = {"a link": lambda: folder.lock.symlink_to(outside), "a pipe": lambda: os.mkfifo(folder.lock)}
    make.get(kind, folder.lock.mkdir)()
    page = read(folder)
    assert "ddpmkit-acme" not in page.text
    assert "150.8" in page.text


def test_unreadable_images_are_skipped_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = a_run(tmp_path / "run")
    secret = save_png(grid(torch.ones(1, 3, 8, 8, dtype=torch.uint8)), tmp_path / "secret.png")
    folder.samples(20).unlink()
    folder.samples(20).symlink_to(secret)
    folder.visualization("forward").write_bytes(b"")
    folder.visualization("backward").unlink()
    os.mkfifo(folder.visualization("backward"))
    (folder.path / "samples" / "step-zebra.png").write_bytes(b"mine")
    save_png(grid(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), folder.samples(15))
    page = read(folder)
    assert [link for link in page.links if not link.startswith("http")] == [
        "samples/step-00000010.png",
        "samples/step-00000015.png",
    ]
    assert len(page.sources) == 3
    for name in ("step-00000020.png", "forward.png", "backward.png"):
        assert name in caplog.text


def test_damaged_lines_of_the_log_lose_only_their_own_content(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = a_run(tmp_path)
    log = folder.metrics.read_bytes()
    folder.metrics.write_bytes(b"\n[]\n\xff\n" + log + b'{"event": "scores", "step": 1}\n{"event": "step", "st\xc3')
    before = folder.metrics.read_bytes()
    page = read(folder)
    assert "trained for 20" in page.text
    assert "150.8" in page.text
    assert "lines 1 to 3, 7 (empty)" in caplog.text
    assert folder.metrics.read_bytes() == before


def test_a_name_that_is_not_text_does_not_prevent_the_page(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    name = "caf\udce9 \u2028"
    scores = Scores(20, name, "standard", True, 10, 10, {name: 1.25}, {}, {name: "lower"}, {name: name})
    folder.log.append("scores", asdict(scores))
    assert "1.25" in read(folder).text


def test_a_log_that_is_a_pipe_is_an_error_and_not_read(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    folder.metrics.unlink()
    os.mkfifo(folder.metrics)
    with pytest.raises(OSError, match="is a pipe"):
        write_report(tmp_path)


def test_scores_are_sorted_by_step_and_manual_ones_are_in_no_chart(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create()
    folder.lock.write_text(LOCK.format(name='"cats"'))
    folder.log.append("step", asdict(StepRecord(30, 0.1, (None,) * 4, 1.0, 1e-3, 90.0)))

    def write(step: int, value: float, **changes: Any) -> None:
        scores = Scores(step, "kid", "plain", True, 10, 20, {"kid": value}, {}, {"kid": "lower"}, **changes)
        folder.log.append("scores", asdict(scores))

    for step, value in ((30, 0.75), (10, 0.25), (20, 0.5)):
        write(step, value)
    write(10, 9.5, origin="request", facts={"sampler": "heun, 3 steps"})
    page = read(folder)
    assert "kid kid (plain) 0.75" in page.text
    line = re.search(r'Kid|kid kid.*?polyline class="line c0" points="([^"]*)"', folder.report.read_text(), re.DOTALL)
    assert line is not None
    places = [tuple(map(float, place.split(","))) for place in line[1].split()]
    assert len(places) == 3
    assert [across for across, _ in places] == sorted(across for across, _ in places)
    assert [down for _, down in places] == sorted((down for _, down in places), reverse=True)
    assert page.text.index("9.5") < page.text.index("manual evaluation, heun, 3 steps")
