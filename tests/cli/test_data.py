import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ddpmkit.cli import main


@pytest.fixture
def fetched(monkeypatch):
    """Records the arguments of `fetch_afhq` instead of downloading."""
    asked = []

    def fetch_afhq(destination, version=1, *, url=None, progress):
        asked.append((destination, version, url))
        progress(50, None)  # a server that does not send the size
        progress(100, 100)
        return destination

    monkeypatch.setitem(sys.modules, "ddpmkit.data.fetch", SimpleNamespace(fetch_afhq=fetch_afhq))
    return asked


def test_the_default_folder_is_the_one_that_the_recipes_use(fetched):
    result = CliRunner().invoke(main, ["data", "fetch", "afhq"])
    assert (result.exit_code, result.stdout) == (0, "data/afhq\n")
    assert fetched == [(Path("data/afhq"), 1, None)]
    assert "CC BY-NC 4.0" in result.stderr
    assert "\x1b" not in result.stderr
    assert result.stderr.endswith("next: ddpmkit run recipes/afhq_cat_warmup.toml\n")


def test_version_folder_and_url_can_be_chosen(fetched):
    arguments = ["--version", "2", "--out", "cats", "--url", "http://localhost/a.zip"]
    result = CliRunner().invoke(main, ["data", "fetch", "afhq", *arguments])
    assert result.stderr.endswith(" --set data.root=cats\n")
    assert fetched == [(Path("cats"), 2, "http://localhost/a.zip")]


def test_an_unknown_dataset_exits_2(fetched):
    result = CliRunner().invoke(main, ["data", "fetch", "imagenet"])
    assert result.exit_code == 2
    assert fetched == []


@pytest.fixture
def pets(tmp_path, monkeypatch) -> Path:
    """A folder `pets` with two cats and a dog for training, and a cat for validation."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("train/cat/0.png", "train/cat/1.png", "train/dog/0.png", "val/cat/0.png")):
        path = Path("pets", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return Path("pets")


def check(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["data", "check", *arguments, "--no-plugins"])


def test_valid_images_are_only_counted(pets):
    result = check("pets")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "         train  val\n"
        "  cat        2    1\n"
        "  dog        1    0\n"
        "  total      3    1\n"
        "\n"
        "✓ every image can be read\n"
    )


def test_all_unusable_files_are_listed_and_the_exit_code_is_1(pets):
    (pets / "train" / "cat" / "page.jpg").write_text("<html>")
    (pets / "train" / "dog" / "a.jpg").symlink_to("a.jpg")
    for number in range(30):
        (pets / "val" / "cat" / f"empty {number:02}.jpg").touch()
    result = check("pets")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[5:8] == [
        "✗ 32 files cannot be used:",
        "    pets/train/cat/page.jpg    it is a web page",
        "    pets/train/dog/a.jpg       it is a circular link",
    ]
    assert lines[-1] == "    pets/val/cat/empty 29.jpg  it is empty"
    assert len(lines) == 6 + 32


def test_a_duplicate_is_a_note(pets):
    shutil.copy(pets / "train" / "dog" / "0.png", pets / "val" / "cat" / "dog.png")
    result = check("pets")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-3:] == [
        "- 1 file repeats the content of another:",
        "    pets/train/dog/0.png = pets/val/cat/dog.png",
        "- 1 of the images in val is also in train: the validation loss is too low",
    ]


def test_of_many_duplicates_some_are_listed(pets):
    for number in range(25):
        name = f"{number}.bmp"
        Image.new("RGB", (9, 9), (number, 0, 0)).save(pets / "train" / "dog" / name)
        shutil.copy(pets / "train" / "dog" / name, pets / "train" / "cat" / name)
    lines = check("pets").stdout.splitlines()
    assert "- 25 files repeat the content of another:" in lines
    assert sum(" = " in line for line in lines) == 20
    assert lines[-1] == "    ... and 5 more"


def test_a_file_name_that_is_not_text_can_be_printed(pets):
    (pets / "train" / "cat" / os.fsdecode(b"caf\xe9.jpg")).touch()
    result = check("pets")
    assert result.exit_code == 1
    assert "    'pets/train/cat/caf\\udce9.jpg'  it is empty\n" in result.stdout


def test_the_images_of_a_recipe_are_checked_with_its_keys(pets):
    (pets / "train" / "dog" / "empty.jpg").touch()
    Path("mine.toml").write_text('[data]\nuse = "image-folder"\nroot = "pets"\nclasses = ["cat"]')
    only_cats = check("mine.toml")
    assert only_cats.exit_code == 0
    assert only_cats.stdout.splitlines()[:2] == ["       train  val", "  cat      2    1"]
    assert check("mine.toml", "--set", "data.classes=all").exit_code == 1
    assert check("pets", "--set", 'data.classes=["cat"]').stdout == only_cats.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["nowhere.toml"], "nowhere.toml"),
        (["pets", "--set", "data.classes=['cow']"], "there is no class 'cow'"),
        (["pets", "--set", "data.use=critters"], "dataset 'critters' (ddpmkit 0.1.0) cannot check its files"),
    ],
)
def test_a_missing_folder_exits_2(pets, arguments, message):
    result = check(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_a_terminal_shows_a_progress_bar(pets, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    result = check("pets")
    assert "reading" in result.stderr
    assert click.unstyle(result.stdout).endswith("✓ every image can be read\n")
