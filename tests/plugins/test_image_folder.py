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
from ddpmkit_plugins.image_folder import ImageFolderConfig, decoded_images
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


def test_images_are_sorted_by_class_and_name(tmp_path: Path) -> None:
    found = folder(animals(tmp_path / "data"))
    assert found.class_names == ("cat", "dog")
    assert found.labels(np.arange(6)).tolist() == [0, 0, 0, 1, 1, 1]
    dogs = folder(tmp_path / "data", classes=("dog",))
    assert np.array_equal(pixels(found)[3:], pixels(dogs))
    assert dogs.labels(np.arange(3)).tolist() == [0, 0, 0]


def test_images_are_scaled_to_cover_and_cropped_to_the_centre(tmp_path: Path) -> None:
    half = np.zeros((32, 64, 3), dtype=np.uint8)
    half[:, 16:48] = (250, 100, 10)
    path = tmp_path / "data" / "train" / "cat" / "a.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(half).save(path)
    found = pixels(folder(tmp_path / "data"))[0]
    assert found.shape == (3, 16, 16)
    # Away from the edges of the crop, where the antialiasing filter includes the area outside.
    assert np.abs(found[:, 4:12, 4:12].astype(int) - np.array([250, 100, 10])[:, None, None]).max() <= 1


def test_resizing_is_antialiased(tmp_path: Path) -> None:
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
    ("name", "given", "expected"),
    [
        ("cmyk.jpg", solid("CMYK", (0, 255, 255, 0), quality=95), (254, 0, 0)),
        ("gray.png", solid("L", 77), (77, 77, 77)),
        ("deep.png", solid("I;16", 0x8080), (128, 128, 128)),
        ("clear.png", solid("RGBA", (0, 0, 255, 0)), (255, 255, 255)),
        ("half.png", solid("RGBA", (0, 0, 0, 128)), (127, 127, 127)),
        ("bilevel.png", solid("1", 1), (255, 255, 255)),
    ],
)
def test_every_mode_is_decoded_as_a_viewer_shows_it(
    tmp_path: Path, name: str, given: tuple[Image.Image, dict[str, Any]], expected: tuple[int, int, int]
) -> None:
    image, options = given
    image.save(tmp_path / name, **options)
    found = decode(tmp_path / name, SQUARE).astype(int)
    assert np.abs(found - np.array(expected)[:, None, None]).max() <= 3


def test_a_transparent_palette_colour_becomes_white(tmp_path: Path) -> None:
    image = Image.new("P", (24, 24), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.save(tmp_path / "a.png", transparency=0)
    assert decode(tmp_path / "a.png", SQUARE).min() == 255


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 32), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees clockwise when shown
    image.save(tmp_path / "a.png", exif=exif)
    found = decode(tmp_path / "a.png", SQUARE)
    assert found[:, :, 12:].min() > 200
    assert found[:, :, :4].max() < 50


def test_a_second_start_uses_the_cached_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = folder(animals(tmp_path / "data"))
    before, fingerprint = pixels(first), first.fingerprint

    def refuse(*arguments: object, **keys: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoded_images, "decode_all", refuse)
    again = folder(tmp_path / "data")
    assert isinstance(again._pixels, np.memmap)
    assert np.array_equal(pixels(again), before)
    assert again.fingerprint == fingerprint


def test_a_touched_file_is_decoded_again_with_the_same_fingerprint(tmp_path: Path) -> None:
    before = folder(animals(tmp_path / "data")).fingerprint
    os.utime(tmp_path / "data" / "train" / "cat" / "0.png", (1, 1))
    assert folder(tmp_path / "data").fingerprint == before
    save(tmp_path / "data" / "train" / "cat" / "0.png", seed=12345)
    assert folder(tmp_path / "data").fingerprint != before


@pytest.mark.parametrize("left", [0, 50])
@pytest.mark.parametrize("damage", ["pixels", "facts"])
def test_a_damaged_cache_is_not_used(tmp_path: Path, damage: str, left: int) -> None:
    before = pixels(folder(animals(tmp_path / "data")))
    (file,) = (tmp_path / "cache" / "images").glob("*.npy" if damage == "pixels" else "*.json")
    file.write_bytes(file.read_bytes()[:left])
    assert np.array_equal(pixels(folder(tmp_path / "data")), before)


def test_a_cache_that_cannot_be_written_is_only_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert len(folder(animals(tmp_path / "data"))) == 6
    assert "the next start decodes them again" in caplog.text


def test_the_first_start_logs_the_decoding_and_the_cache_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = folder(animals(tmp_path / "data"))
        folder(tmp_path / "data")
    (line,) = caplog.messages
    assert line.startswith(f"decoded 6 train images of {tmp_path / 'data'} in ")
    assert str(tmp_path / "cache") in line
    assert isinstance(found._pixels, np.memmap)
    assert sorted(path.suffix for path in (tmp_path / "cache" / "images").iterdir()) == [".json", ".npy"]


def bad_files(root: Path) -> list[Path]:
    train = animals(root) / "train" / "cat"
    (train / "empty.jpg").write_bytes(b"")
    (train / "page.jpg").write_text("<html>not here</html>")
    intact = save(train / "cut.jpg", size=(64, 64)).read_bytes()
    (train / "cut.jpg").write_bytes(intact[: len(intact) // 2])
    bomb = Image.new("1", (20_000, 20_000))
    bomb.save(train / "bomb.png")
    return sorted([train / name for name in ("empty.jpg", "page.jpg", "cut.jpg", "bomb.png")])


def test_all_files_that_are_not_images_are_named(tmp_path: Path) -> None:
    bad = bad_files(tmp_path / "data")
    with pytest.raises(InputError, match="4 files are not intact images") as caught:
        folder(tmp_path / "data")
    for path in bad:
        assert str(path) in str(caught.value)
    for reason in ("it is empty", "it is a web page", "truncated", "header claims"):
        assert reason in str(caught.value)
    assert 'data.on_bad_image = "skip"' in str(caught.value)


def test_bad_files_can_be_skipped_with_a_warning_at_every_start(
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


def test_many_bad_files_are_named_up_to_a_limit(tmp_path: Path) -> None:
    for number in range(25):
        (animals(tmp_path / "data") / "train" / "cat" / f"bad{number:02}.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="25 files are not intact images") as caught:
        folder(tmp_path / "data")
    assert str(caught.value).count("it is empty") == 20
    assert "... and 5 more" in str(caught.value)


def test_bad_files_are_left_out_however_the_root_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad_files(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    relative, absolute = (folder(root, on_bad_image="skip") for root in (Path("data"), tmp_path / "data"))
    assert len(relative) == len(absolute) == len(pixels(absolute)) == 6
    assert relative.fingerprint == absolute.fingerprint


def test_a_broken_link_is_a_bad_file_until_its_target_exists(tmp_path: Path) -> None:
    link = animals(tmp_path / "data") / "train" / "cat" / "link.png"
    link.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(InputError, match=r"link\.png: it is a broken link"):
        folder(tmp_path / "data")
    save(tmp_path / "elsewhere.png")
    assert len(folder(tmp_path / "data")) == 7


def test_an_unreadable_file_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Image.open

    def deny(path: Path) -> Image.Image:
        if path.name == "0.png":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path)

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", deny)
        assert len(folder(animals(tmp_path / "data"), on_bad_image="skip")) == 4
        with pytest.raises(InputError, match=r"0\.png: it cannot be read \(permission denied\)"):
            folder(tmp_path / "data")
    assert len(folder(tmp_path / "data")) == 6


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_values_without_a_defined_white_are_refused(tmp_path: Path, kind: type) -> None:
    Image.fromarray(np.ones((24, 24), dtype=kind)).save(tmp_path / "a.tif")
    with pytest.raises(BadImage, match="no defined white"):
        decode(tmp_path / "a.tif", SQUARE)


def test_an_image_with_only_a_warning_of_pillow_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # the images have 480: Pillow warns up to twice its limit
    assert len(folder(animals(tmp_path / "data"))) == 6


@pytest.mark.parametrize("side", [11_000, 20_000])
def test_a_decompression_bomb_is_detected_by_its_header(tmp_path: Path, side: int) -> None:
    Image.new("1", (side, side)).save(tmp_path / "bomb.png")
    with pytest.raises(BadImage, match="header claims"):
        decode(tmp_path / "bomb.png", SQUARE)


def test_a_missing_root_is_an_error_with_the_path_and_remedies(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist") as caught:
        folder(tmp_path / "nowhere")
    text = str(caught.value)
    assert str(tmp_path / "nowhere") in text
    assert "train/<class>/*.jpg" in text
    assert "ddpmkit data fetch afhq" in text


def test_a_missing_training_split_is_an_error_and_a_missing_val_is_empty(tmp_path: Path) -> None:
    save(tmp_path / "data" / "train" / "cat" / "0.png")
    assert len(folder(tmp_path / "data", split="val")) == 0
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="other/train does not exist"):
        folder(tmp_path / "other")


def test_an_unknown_class_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no class 'cats'") as caught:
        folder(animals(tmp_path / "data"), classes=("cats",))
    assert "did you mean 'cat'?" in str(caught.value)


def test_plain_folders_are_one_class_named_after_the_root(tmp_path: Path) -> None:
    for place in ("plain", "split/train", "split/val"):
        save(tmp_path / place / "b.png", seed=1)
        save(tmp_path / place / "a.jpg", seed=2)
    plain, split = folder(tmp_path / "plain"), folder(tmp_path / "split")
    assert (plain.class_names, split.class_names) == (("plain",), ("split",))
    assert np.array_equal(pixels(plain), pixels(split))
    assert len(folder(tmp_path / "plain", split="val")) == 0
    assert len(folder(tmp_path / "split", split="val")) == 2
    with pytest.raises(InputError, match="no class 'cat'") as caught:
        folder(tmp_path / "plain", classes=("cat",))
    assert "available classes: plain" in str(caught.value)


def test_a_stray_image_does_not_hide_the_class_folders(tmp_path: Path) -> None:
    save(tmp_path / "data" / "cat" / "0.png")
    save(tmp_path / "data" / "preview.png")
    with pytest.raises(InputError, match="data/train does not exist"):
        folder(tmp_path / "data")


def test_images_next_to_the_class_folders_are_skipped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(animals(tmp_path / "data") / "train" / "stray.png")
    assert len(folder(tmp_path / "data")) == 6
    assert "in no class folder are skipped: 1 in" in caplog.text


def test_labels_are_the_same_classes_in_both_splits(tmp_path: Path) -> None:
    save(animals(tmp_path / "data") / "train" / "bee" / "0.png")
    held_out = folder(tmp_path / "data", split="val")
    assert held_out.class_names == folder(tmp_path / "data").class_names == ("bee", "cat", "dog")
    assert held_out.labels(np.arange(6)).tolist() == [1, 1, 1, 2, 2, 2]


def test_a_folder_without_images_is_an_error_with_the_layout(tmp_path: Path) -> None:
    (tmp_path / "data" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="train contains no class folder and no image") as caught:
        folder(tmp_path / "data", classes=("cat",))
    assert "train/<class>/*.jpg" in str(caught.value)


def test_an_empty_class_is_an_error_with_the_suffixes_of_images(tmp_path: Path) -> None:
    animals(tmp_path / "data")
    (tmp_path / "data" / "train" / "wild").mkdir()
    (tmp_path / "data" / "train" / "wild" / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="wild contains no image") as caught:
        folder(tmp_path / "data")
    assert ".jpeg" in str(caught.value)


def test_a_class_of_one_image(tmp_path: Path) -> None:
    assert len(folder(animals(tmp_path / "data", count=1), classes=("cat",))) == 1


def test_hidden_files_and_folders_are_not_images(tmp_path: Path) -> None:
    animals(tmp_path / "data")
    (tmp_path / "data" / "train" / "cat" / "._0.png").write_bytes(b"resource fork")
    (tmp_path / "data" / "train" / ".cache").mkdir()
    (tmp_path / "data" / "train" / "cat" / "folder.jpg").mkdir()
    assert len(folder(tmp_path / "data")) == 6
