"""`sample --from` and `interpolate`, with a tiny run."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ddpmkit.cli import main

PARTS = str(Path(__file__).with_name("parts.py"))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--plugin", PARTS])


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPMKIT_CACHE", str(folder.parent / "cache"))
        assert invoke("run", recipe, "--out", folder).exit_code == 0
    return folder


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """`cat.png`, `dog.png`, and `mask.png`, whose right half is white; twice the size of the run's images."""
    for name, level in (("cat", 90), ("dog", 200)):
        Image.new("RGB", (16, 16), (level, level, 30)).save(tmp_path / f"{name}.png")
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[:, 8:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


def images_in(folder: Path) -> np.ndarray:
    files = sorted(folder.iterdir())
    return np.stack([np.asarray(Image.open(path)) for path in files])


def test_the_black_area_of_a_mask_is_kept(finished, files, tmp_path):
    result = invoke(
        "sample", finished, "--from", files / "cat.png", "--mask", files / "mask.png",
        "-n", 3, "--separate", "--out", tmp_path / "out",
    )  # fmt: skip
    assert (result.exit_code, result.stdout) == (0, f"3 images in {tmp_path}/out\n")
    images = images_in(tmp_path / "out")
    assert (images[:, :, :4] == (90, 90, 30)).all()
    assert (images[:, :, 4:] != (90, 90, 30)).any()


def test_a_small_strength_changes_little(finished, files, tmp_path):
    changes = []
    for strength in (0.2, 1):
        out = tmp_path / f"out{strength}"
        result = invoke(
            "sample", finished, "--from", files / "cat.png", "--strength", strength,
            "-n", 2, "--separate", "--out", out,
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
        changes.append(np.abs(images_in(out).astype(int) - (90, 90, 30)).mean())
    assert changes[0] < changes[1] / 2
    invoke("sample", finished, "-n", 2, "--separate", "--out", tmp_path / "plain")
    assert (images_in(tmp_path / "plain") == images_in(tmp_path / "out1")).all()


def test_the_file_name_contains_image_mask_and_strength(finished, files):
    options = ["--from", files / "cat.png", "--mask", files / "mask.png", "--strength", 0.5, "--resample", 2]
    result = invoke("sample", finished, "-n", 2, *options)
    name = "seed-0-n-2-at-00000004-from=cat-mask=mask-strength=0.5-resample=2.png"
    assert result.stdout == f"{finished}/samples/{name}\n"
    result = invoke("interpolate", finished, files / "cat.png", files / "dog.png", "--strength", 0.4)
    assert result.stdout == f"{finished}/samples/seed-0-n-8-at-00000004-from=cat-to=dog-strength=0.4.png\n"


def test_an_interpolation_leads_from_sample_to_sample(finished, tmp_path):
    result = invoke("interpolate", finished, 1, 3, "-n", 5, "--separate", "--out", tmp_path / "row")
    assert result.exit_code == 0, result.stderr
    invoke("sample", finished, "-n", 4, "--separate", "--out", tmp_path / "samples")
    assert (images_in(tmp_path / "row")[[0, 4]] == images_in(tmp_path / "samples")[[1, 3]]).all()
    result = invoke("interpolate", finished, 1, 3, "-n", 5, "--out", tmp_path / "row.png")
    with Image.open(tmp_path / "row.png") as image:
        assert image.width > 4 * image.height


@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        ("sample", ["--strength", "0.5"], "  - add --from IMAGE"),
        ("sample", ["--mask", "mask.png"], "--mask needs an image to start from"),
        ("sample", ["--from", "cat.png", "--resample", "2"], "  - add --mask IMAGE"),
        ("sample", ["--from", "cat.png", "--strength", "0"], "--strength"),
        ("sample", ["--from", "none.png"], "image file none.png does not exist"),
        ("sample", ["--from", "text.png"], "text.png cannot be read as an image: unknown format"),
        ("interpolate", ["cat.png", "3"], "interpolation needs two images or two sample indices"),
        ("interpolate", ["3", "4", "--strength", "0.5"], "samples start from pure noise"),
        ("interpolate", ["3", "3"], "cannot interpolate between image 3 and itself"),
        ("interpolate", ["cat.png", "dog.png", "-n", "1"], "-n"),
        (
            "interpolate",
            ["3", "9223372036854775808"],
            "image index must be an integer from 0",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_sampling_arguments_exit_2(finished, files, monkeypatch, command, arguments, text):
    (files / "text.png").write_text("not an image")
    monkeypatch.chdir(files)
    result = invoke(command, finished, *arguments)
    assert result.exit_code == 2
    assert text in result.stderr
