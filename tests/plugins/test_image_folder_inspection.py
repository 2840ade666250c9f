import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpmkit.contracts import ImageShape, Inspection
from ddpmkit.errors import InputError
from ddpmkit_plugins.image_folder import ImageFolderConfig
from ddpmkit_plugins.image_folder.dataset import ImageFolder

SQUARE = ImageShape(3, 16, 16)


def save(path: Path, seed: int, side: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three cats and two dogs for training, one held-out image of each."""
    train = ("train/cat/0.png", "train/cat/1.jpg", "train/cat/2.png", "train/dog/0.png", "train/dog/1.png")
    for seed, name in enumerate((*train, "val/cat/0.png", "val/dog/0.png")):
        save(tmp_path / "data" / name, seed)
    return tmp_path / "data"


def look(
    root: Path,
    classes: tuple[str, ...] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inspection:
    return ImageFolder.inspect(
        ImageFolderConfig(root=str(root)), classes=classes, image_shape=SQUARE, progress=progress
    )


def test_intact_images_are_counted_by_split_and_class(root: Path) -> None:
    reported = []
    found = look(root, progress=lambda done, total: reported.append((done, total)))
    assert found == Inspection({"train": {"cat": 3, "dog": 2}, "val": {"cat": 1, "dog": 1}}, {})
    assert reported == [(done, 7) for done in range(1, 8)]
    assert look(root, classes=("dog",)).counts == {"train": {"dog": 2}, "val": {"dog": 1}}
    shutil.rmtree(root / "val")
    assert look(root).counts == {"train": {"cat": 3, "dog": 2}}


def test_the_cache_is_neither_written_nor_used(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path / "cache"))
    look(root)
    assert not (tmp_path / "cache").exists()
    file = root / "train" / "cat" / "0.png"
    ImageFolder(ImageFolderConfig(root=str(root)), split="train", classes=None, image_shape=SQUARE)
    before = file.stat()
    # As a failing disk might do: the cache, which compares sizes and times, does not notice it.
    file.write_bytes(b"\0" * before.st_size)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    ImageFolder(ImageFolderConfig(root=str(root)), split="train", classes=None, image_shape=SQUARE)
    assert look(root).bad == {file: "it is not an image that Pillow can read"}


def test_an_image_that_was_changed_without_a_new_size_or_time_is_reported(root: Path) -> None:
    file = root / "train" / "dog" / "1.bmp"
    for name in ("dog", "cat"):
        save(root / "train" / name / "1.bmp", seed=20)
    (root / "train" / "cat" / "3.png").write_bytes(b"")
    for split in ("train", "val"):
        config = ImageFolderConfig(root=str(root), on_bad_image="skip")
        ImageFolder(config, split=split, classes=None, image_shape=SQUARE)
    before = file.stat()
    save(file, seed=21)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    (note,) = look(root).notes
    assert note.startswith("1 image was changed without a new size or time")
    assert note.endswith(f": {file}")
    file.touch()
    assert look(root).notes == ()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def wide_loop(path: Path) -> None:
    path.symlink_to("b")
    (path.parent / "b").symlink_to(path.name)


def truncated(path: Path) -> None:
    content = save(path, seed=9, side=300).read_bytes()
    path.write_bytes(content[:-200])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_bytes(os.urandom(100)), "it is not an image that Pillow can read"),
        (lambda path: path.write_text("\n<!DOCTYPE html><html>no</html>"), "it is a web page"),
        (lambda path: path.write_text("<?xml?><HTML>no</HTML>"), "it is a web page"),
        (truncated, "image file is truncated"),
        (lambda path: Image.new("1", (11_000, 11_000)).save(path, "PNG"), "its header claims 11000 x 11000 pixels"),
        (lambda path: Image.new("1", (20_000, 20_000)).save(path, "PNG"), "its header claims"),
        (lambda path: Image.new("I", (8, 8)).save(path, "TIFF"), "it has 32 bits per pixel"),
        (loop, "it is a circular link"),
        (wide_loop, "it is a circular link"),
        (lambda path: path.symlink_to("gone.jpg"), "it is a broken link"),
        (os.mkfifo, "it is a pipe, a socket or a device"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_kind_of_bad_file_is_named_with_its_reason_and_not_counted(
    root: Path, make: Callable[[Path], object], reason: str
) -> None:
    path = root / "train" / "cat" / "a.jpg"
    make(path)
    found = look(root)
    assert list(found.bad) == [path]
    assert reason in found.bad[path]
    assert found.counts["train"]["cat"] == 3
    with pytest.raises(InputError, match="1 file is not an intact image"):
        ImageFolder(ImageFolderConfig(root=str(root)), split="train", classes=None, image_shape=SQUARE)


def test_a_file_without_read_permission(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Image.open

    def deny(path: Path) -> Image.Image:  # the tests may run as root
        if path.name == "1.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path)

    monkeypatch.setattr(Image, "open", deny)
    assert look(root).bad == {root / "train" / "cat" / "1.jpg": "it cannot be read (permission denied)"}


def test_a_name_that_is_not_valid_text_works(root: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    save(root / "train" / "cat" / name, seed=77)
    assert look(root).counts["train"]["cat"] == 4
    found = ImageFolder(ImageFolderConfig(root=str(root)), split="train", classes=None, image_shape=SQUARE)
    assert len(found) == 6


def test_files_of_the_same_content_are_grouped(root: Path) -> None:
    train = root / "train"
    shutil.copy(train / "cat" / "0.png", train / "cat" / "copy.png")
    shutil.copy(train / "cat" / "0.png", train / "dog" / "mistaken.png")
    shutil.copy(train / "dog" / "1.png", root / "val" / "dog" / "seen.png")
    shutil.copy(root / "val" / "cat" / "0.png", root / "val" / "cat" / "copy.png")
    # The same size, another content.
    Image.open(train / "cat" / "2.png").save(train / "cat" / "same size.bmp")
    Image.open(train / "dog" / "0.png").save(train / "dog" / "same size.bmp")
    found = look(root)
    assert not found.bad
    assert found.alike == (
        (train / "cat" / "0.png", train / "cat" / "copy.png", train / "dog" / "mistaken.png"),
        (train / "dog" / "1.png", root / "val" / "dog" / "seen.png"),
        (root / "val" / "cat" / "0.png", root / "val" / "cat" / "copy.png"),
    )
    assert found.notes == ("1 of the images in val is also in train: the validation loss is too low",)


def test_skipped_files_are_reported(root: Path) -> None:
    cats = root / "train" / "cat"
    for name in ("a.heic", "b.heic", "README", ".hidden"):
        (cats / name).write_text("x")
    (cats / "more").mkdir()
    (cats / "up").symlink_to("..")
    (note,) = look(root).notes
    assert note == (
        f"skipped in {cats}, because their suffixes are not those of images: 2 x .heic, 2 x folder, 1 x no suffix"
    )


def test_a_plain_folder_is_one_class(tmp_path: Path) -> None:
    save(tmp_path / "plain" / "a.png", seed=1)
    assert look(tmp_path / "plain") == Inspection({"train": {"plain": 1}}, {})


@pytest.mark.parametrize(
    ("target", "reason"), [("lost", "circular link"), ("nowhere", "broken link")], ids=["circle", "nowhere"]
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_folder_that_is_a_broken_link_is_an_error(root: Path, split: str, target: str, reason: str) -> None:
    (root / "train" / "lost").mkdir()
    save(root / "train" / "lost" / "0.png", seed=50)
    if split == "train":
        shutil.rmtree(root / "train" / "lost")
    link = root / split / "lost"
    link.symlink_to(target)
    with pytest.raises(InputError, match=f"it is a {reason}") as caught:
        look(root)
    assert str(link) in caught.value.message
    assert look(root, classes=("cat", "dog")).bad == {}


def test_a_folder_that_links_to_its_parent_has_no_images(root: Path) -> None:
    (root / "train" / "again").symlink_to(".", target_is_directory=True)
    with pytest.raises(InputError, match="train/again contains no image"):
        look(root)


@pytest.mark.parametrize("place", ["", "train"])
def test_a_root_that_is_a_circular_link_does_not_exist(tmp_path: Path, place: str) -> None:
    if place:
        (tmp_path / "data").mkdir()
    loop(tmp_path / "data" / place if place else tmp_path / "data")
    with pytest.raises(InputError, match="does not exist"):
        look(tmp_path / "data")


def test_a_folder_without_read_permission_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    iterdir = Path.iterdir

    def deny(path: Path) -> object:
        if path.name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", deny)
    with pytest.raises(InputError, match=r"train/dog cannot be used: it cannot be read \(permission denied\)"):
        look(root)
