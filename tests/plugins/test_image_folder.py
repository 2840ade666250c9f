import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddpmkit.contracts import ImageShape
from ddpmkit.errors import InputError
from ddpmkit_plugins.image_folder import ImageFolderConfig, dataset
from ddpmkit_plugins.image_folder.dataset import ImageFolder
from ddpmkit_plugins.image_folder.decoding import BadImage, decode

SQUARE = ImageShape(3, 16, 16)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path / "cache"))


def save(path: Path, seed: int = 0, size: tuple[int, int] = (20, 24), **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def animals(root: Path, count: int = 3) -> Path:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            for number in range(count):
                save(root / split / name / f"{number}.png", seed=hash((split, name, number)) % 1000)
    return root


def folder(root: Path, split: str = "train", classes: tuple[str, ...] | None = None, **keys: Any) -> ImageFolder:
    shape = keys.pop("shape", SQUARE)
    return ImageFolder(ImageFolderConfig(root=str(root), **keys), split=split, classes=classes, image_shape=shape)


def pixels(found: ImageFolder) -> NDArray[np.uint8]:
    return found.images(np.arange(len(found)))


def test_pictures_come_by_class_and_name_with_their_labels(tmp_path: Path) -> None:
    found = folder(animals(tmp_path / "data"))
    assert found.class_names == ("cat", "dog")
    assert found.labels(np.arange(6)).tolist() == [0, 0, 0, 1, 1, 1]
    dogs = folder(tmp_path / "data", classes=("dog",))
    assert np.array_equal(pixels(found)[3:], pixels(dogs))
    assert dogs.labels(np.arange(3)).tolist() == [0, 0, 0]


def test_the_centre_is_shown_at_the_scale_that_just_covers(tmp_path: Path) -> None:
    half = np.zeros((32, 64, 3), dtype=np.uint8)
    half[:, 16:48] = (250, 100, 10)
    path = tmp_path / "data" / "train" / "cat" / "a.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(half).save(path)
    found = pixels(folder(tmp_path / "data"))[0]
    assert found.shape == (3, 16, 16)
    # Away from the edges of the crop, where the antialiasing filter sees what was cut off.
    assert np.abs(found[:, 4:12, 4:12].astype(int) - np.array([250, 100, 10])[:, None, None]).max() <= 1


def test_resizing_averages_and_does_not_pick(tmp_path: Path) -> None:
    stripes = np.zeros((128, 128, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    path = tmp_path / "a.png"
    Image.fromarray(stripes).save(path)
    found = decode(path, SQUARE)
    assert 120 < found.mean() < 135
    assert found.std() < 12


@pytest.mark.parametrize("shape", [ImageShape(1, 8, 8), ImageShape(3, 9, 30), ImageShape(1, 36, 12)])
def test_any_shape(tmp_path: Path, shape: ImageShape) -> None:
    assert pixels(folder(animals(tmp_path / "data"), shape=shape)).shape == (6, *shape)


def solid(mode: str, colour: Any, **options: Any) -> tuple[Image.Image, dict[str, Any]]:
    return Image.new(mode, (24, 24), colour), options


@pytest.mark.parametrize(
    ("name", "picture", "expected"),
    [
        ("cmyk.jpg", solid("CMYK", (0, 255, 255, 0), quality=95), (254, 0, 0)),
        ("gray.png", solid("L", 77), (77, 77, 77)),
        ("deep.png", solid("I;16", 0x8080), (128, 128, 128)),
        ("clear.png", solid("RGBA", (0, 0, 255, 0)), (255, 255, 255)),
        ("half.png", solid("RGBA", (0, 0, 0, 128)), (127, 127, 127)),
        ("bilevel.png", solid("1", 1), (255, 255, 255)),
    ],
)
def test_every_mode_is_shown_as_people_see_it(
    tmp_path: Path, name: str, picture: tuple[Image.Image, dict[str, Any]], expected: tuple[int, int, int]
) -> None:
    image, options = picture
    image.save(tmp_path / name, **options)
    found = decode(tmp_path / name, SQUARE).astype(int)
    assert np.abs(found - np.array(expected)[:, None, None]).max() <= 3


def test_a_palette_with_a_clear_colour_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (24, 24), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.save(tmp_path / "a.png", transparency=0)
    assert decode(tmp_path / "a.png", SQUARE).min() == 255


def test_a_picture_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 32), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    image.save(tmp_path / "a.png", exif=exif)
    found = decode(tmp_path / "a.png", SQUARE)
    assert found[:, :, 12:].min() > 200
    assert found[:, :, :4].max() < 50


def test_a_second_start_decodes_nothing_and_shows_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = folder(animals(tmp_path / "data"))
    before, fingerprint = pixels(first), first.fingerprint

    def refuse(*arguments: object, **keys: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(dataset, "decode_all", refuse)
    again = folder(tmp_path / "data")
    assert isinstance(again._pixels, np.memmap)
    assert np.array_equal(pixels(again), before)
    assert again.fingerprint == fingerprint


def test_a_touched_file_is_decoded_again_and_is_the_same_data(tmp_path: Path) -> None:
    before = folder(animals(tmp_path / "data")).fingerprint
    os.utime(tmp_path / "data" / "train" / "cat" / "0.png", (1, 1))
    assert folder(tmp_path / "data").fingerprint == before
    save(tmp_path / "data" / "train" / "cat" / "0.png", seed=12345)
    assert folder(tmp_path / "data").fingerprint != before


@pytest.mark.parametrize("damage", ["pixels", "facts"])
def test_a_damaged_cache_is_not_believed(tmp_path: Path, damage: str) -> None:
    before = pixels(folder(animals(tmp_path / "data")))
    (file,) = (tmp_path / "cache" / "images").glob("*.npy" if damage == "pixels" else "*.json")
    file.write_bytes(file.read_bytes()[:50])
    assert np.array_equal(pixels(folder(tmp_path / "data")), before)


def test_a_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert len(folder(animals(tmp_path / "data"))) == 6
    assert "the next start decodes again" in caplog.text


def bad_files(root: Path) -> list[Path]:
    train = animals(root) / "train" / "cat"
    (train / "empty.jpg").write_bytes(b"")
    (train / "page.jpg").write_text("<html>not here</html>")
    whole = save(train / "cut.jpg", size=(64, 64)).read_bytes()
    (train / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    bomb = Image.new("1", (20_000, 20_000))
    bomb.save(train / "bomb.png")
    return sorted([train / name for name in ("empty.jpg", "page.jpg", "cut.jpg", "bomb.png")])


def test_files_that_are_no_pictures_are_all_named(tmp_path: Path) -> None:
    bad = bad_files(tmp_path / "data")
    with pytest.raises(InputError, match="4 files are no whole pictures") as caught:
        folder(tmp_path / "data")
    for path in bad:
        assert str(path) in str(caught.value)
    for reason in ("it is empty", "no picture that Pillow knows", "truncated", "header claims"):
        assert reason in str(caught.value)
    assert 'data.on_bad_image = "skip"' in str(caught.value)


def test_they_can_be_skipped_and_are_still_named_at_every_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = bad_files(tmp_path / "data")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = folder(tmp_path / "data", on_bad_image="skip")
        assert len(found) == 6
        assert found.labels(np.arange(6)).tolist() == [0, 0, 0, 1, 1, 1]
        assert all(str(path) in caplog.text for path in bad)


@pytest.mark.parametrize("side", [11_000, 20_000])
def test_a_decompression_bomb_is_known_by_its_header(tmp_path: Path, side: int) -> None:
    Image.new("1", (side, side)).save(tmp_path / "bomb.png")
    with pytest.raises(BadImage, match="header claims"):
        decode(tmp_path / "bomb.png", SQUARE)


def test_a_missing_root_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist") as caught:
        folder(tmp_path / "nowhere")
    text = str(caught.value)
    assert str(tmp_path / "nowhere") in text
    assert "train/<class>/*.jpg" in text
    assert "ddpmkit data fetch afhq" in text


def test_a_missing_split_is_named_and_missing_held_out_pictures_are_none(tmp_path: Path) -> None:
    save(tmp_path / "data" / "train" / "cat" / "0.png")
    assert len(folder(tmp_path / "data", split="val")) == 0
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="other/train does not exist"):
        folder(tmp_path / "other")


def test_an_unknown_class_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no class 'cats'") as caught:
        folder(animals(tmp_path / "data"), classes=("cats",))
    assert "did you mean 'cat'?" in str(caught.value)


def test_an_empty_class_is_named_with_what_counts_as_a_picture(tmp_path: Path) -> None:
    animals(tmp_path / "data")
    (tmp_path / "data" / "train" / "wild").mkdir()
    (tmp_path / "data" / "train" / "wild" / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="wild holds no picture") as caught:
        folder(tmp_path / "data")
    assert ".jpeg" in str(caught.value)


def test_a_class_of_one_picture(tmp_path: Path) -> None:
    assert len(folder(animals(tmp_path / "data", count=1), classes=("cat",))) == 1


def test_hidden_files_are_not_pictures(tmp_path: Path) -> None:
    animals(tmp_path / "data")
    (tmp_path / "data" / "train" / "cat" / "._0.png").write_bytes(b"resource fork")
    (tmp_path / "data" / "train" / ".cache").mkdir()
    assert len(folder(tmp_path / "data")) == 6
