"""No command replaces, deletes or mixes with files that ddpmkit did not write."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ddpmkit.cli import main

PARTS = str(Path(__file__).with_name("parts.py"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, recipe: Path) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert invoked("run", str(recipe), "--out", str(folder)).exit_code == 0
    return folder


def invoked(*arguments: str) -> Result:
    plugin = () if arguments[0] == "compare" else ("--plugin", PARTS)
    return CliRunner().invoke(main, [*arguments, *plugin])


def photo(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "green").save(path, format="PNG")
    return path.read_bytes()


@pytest.mark.parametrize("command", [["run", "--out", "own"], ["sweep", "--out", "."]], ids=["run", "sweep"])
def test_a_run_into_a_folder_with_other_files_is_refused(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / ("own" if command[0] == "run" else "1-unchanged")
    mine = [own / "viz" / "holiday.png", own / "samples" / "step-00000099.png", own / "report.html"]
    before = {path: photo(path) for path in mine}
    result = invoked(command[0], str(recipe), *command[1:])
    assert result.exit_code != 0
    assert "is not a run folder" in result.output
    assert {path: path.read_bytes() for path in mine} == before
    assert len([path for path in own.rglob("*") if path.is_file()]) == 3


def test_other_files_in_a_run_folder_are_kept(finished: Path, recipe: Path) -> None:
    mine = [finished / "viz" / "holiday.png", finished / "samples" / "step-zebra.png", finished / "notes.txt"]
    before = {path: photo(path) if path.suffix == ".png" else path.touch() for path in mine}
    result = invoked("run", str(recipe), "--out", str(finished), "--set", "train.steps=6")
    assert result.exit_code == 0, result.output
    assert {path: path.read_bytes() or None for path in mine} == before


@pytest.mark.parametrize(
    ("command", "out"),
    [
        (lambda run: ["sample", run, "-n", "1"], "cat.png"),
        (lambda run: ["sample", run, "-n", "1", "--separate"], "photos"),
        (lambda run: ["interpolate", run, "0", "1"], "cat.png"),
        (lambda run: ["compare", run, run], "page.html"),
    ],
    ids=["a grid", "separate images", "a row", "a page"],
)
def test_only_files_written_by_ddpmkit_are_replaced(
    finished: Path, tmp_path: Path, command: Callable[[str], list[str]], out: str
) -> None:
    place = tmp_path / out
    own = place / "00000.png" if out == "photos" else place
    mine = photo(own)
    arguments = [*command(str(finished)), "--out", str(place)]
    refused = invoked(*arguments)
    assert refused.exit_code == 2
    assert f"{own} is a file that ddpmkit did not write" in refused.output.replace("\n", "")
    assert own.read_bytes() == mine
    own.unlink()
    for _ in range(2):
        assert invoked(*arguments).exit_code == 0
    assert own.read_bytes() != mine


def test_a_grid_is_added_to_a_folder_with_other_files(finished: Path, tmp_path: Path) -> None:
    mine = photo(tmp_path / "photos" / "cat.png")
    result = invoked("sample", str(finished), "-n", "1", "--out", str(tmp_path / "photos"))
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "photos").iterdir())) == 2
    assert (tmp_path / "photos" / "cat.png").read_bytes() == mine


def test_a_link_does_not_count_as_a_file_written_by_ddpmkit(finished: Path, tmp_path: Path) -> None:
    photo(tmp_path / "cat.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "cat.png")
    result = invoked("sample", str(finished), "-n", "1", "--out", str(tmp_path / "link.png"))
    assert result.exit_code == 2
    assert "is a link that ddpmkit did not write" in result.output.replace("\n", "")


@pytest.mark.parametrize("command", ["sample", "visualize", "evaluate"])
def test_nothing_is_written_next_to_a_checkpoint_outside_a_run_folder(
    finished: Path, tmp_path: Path, command: str
) -> None:
    step = max((finished / "checkpoints").iterdir())
    alone = tmp_path / "downloads" / step.name
    alone.parent.mkdir()
    alone.symlink_to(step)
    result = invoked(command, str(alone))
    assert [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(alone)] == []
    assert "is not a run folder" in result.output.replace("\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "x.toml", "--out", ""),
        ("sweep", "x.toml", "--out", ""),
        ("sample", "x", "--out", ""),
        ("compare", "x", "--out", ""),
        ("sample", ""),
        ("run", ""),
        ("plugins", "new", "acme/x", "--kind", "loss", "--out", ""),
        ("data", "fetch", "afhq", "--out", ""),
    ],
)
def test_an_empty_path_is_an_error(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "the path is empty" in result.output
    assert os.listdir(tmp_path) == []  # noqa: PTH208 -- names alone
