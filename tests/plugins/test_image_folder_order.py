"""The order of images depends on names only, for any names."""

import hashlib
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ddpmkit.contracts import ImageShape
from ddpmkit.plugin import cache_folder
from ddpmkit_plugins.image_folder import ImageFolderConfig
from ddpmkit_plugins.image_folder.dataset import ImageFolder

PIXEL = ImageShape(3, 1, 1)
many = settings(max_examples=60, derandomize=True, deadline=None, database=None)

Colour = tuple[int, int, int]


class File(NamedTuple):
    """An image, or a file with the suffix of one, by its folders."""

    split: str
    label: str
    name: str

    @property
    def colour(self) -> Colour:
        """A different colour for each file, so that a pixel identifies the image."""
        red, green, blue = hashlib.sha256(repr(self).encode(errors="surrogatepass")).digest()[:3]
        return red, green, blue


def is_a_name(text: str) -> bool:
    return not text.startswith(".") and len(os.fsencode(text)) < 200


# All of Unicode, and bytes that are not Unicode (lone surrogates in Python); names also differ on file systems that
# ignore case or normalize letters.
letters = st.characters(exclude_categories=["Cs"], exclude_characters="/\0") | st.sampled_from(
    "aAbB 0129._-~\udce9\udcff"
)
words = st.text(letters, min_size=1, max_size=8).filter(is_a_name)
image_names = st.tuples(words, st.sampled_from([".png", ".PNG", ".jpg", ".tif"])).map("".join)


def unlike(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@st.composite
def data_sets(draw: st.DrawFn) -> frozenset[File]:
    """Classes with at least one training image, some with held-out images."""
    classes = draw(st.lists(words, min_size=1, max_size=4, unique_by=unlike))
    files = []
    for label in classes:
        for split, fewest in (("train", 1), ("val", 0)):
            names = draw(st.lists(image_names, min_size=fewest, max_size=4, unique_by=unlike))
            files += [File(split, label, name) for name in names]
    return frozenset(files)


@contextmanager
def written(files: list[File], bad: frozenset[File] = frozenset(), times: list[int] | None = None) -> Iterator[Path]:
    """A folder whose files were created in this order, with these modification times."""
    with tempfile.TemporaryDirectory() as root:
        for place, file in enumerate(files):
            path = Path(root) / file.split / file.label / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            if file in bad:
                path.write_bytes(b"")
            else:
                with path.open("wb") as opened:
                    Image.new("RGB", (1, 1), file.colour).save(opened, "PNG")
            if times:
                os.utime(path, (times[place], times[place]))
        yield Path(root)


def shown(root: Path, split: str = "train", **keys: Any) -> list[tuple[str, Colour]]:
    """The class name and the colour of each image, in the order of the dataset."""
    found = ImageFolder(ImageFolderConfig(root=str(root), **keys), split=split, classes=None, image_shape=PIXEL)
    order = np.arange(len(found))
    labels = [found.class_names[label] for label in found.labels(order)]
    colours = [(int(red), int(green), int(blue)) for red, green, blue in found.images(order)[:, :, 0, 0]]
    return list(zip(labels, colours, strict=True))


def expected(files: frozenset[File], split: str = "train") -> list[tuple[str, Colour]]:
    """Sorted by class, then by name."""
    ours = [file for file in files if file.split == split]
    return [(file.label, file.colour) for file in sorted(ours, key=lambda file: (file.label, file.name))]


@many
@given(files=data_sets(), chance=st.randoms(use_true_random=False))
def test_the_order_depends_on_names_only(files: frozenset[File], chance: Any) -> None:
    one, other = list(files), list(files)
    chance.shuffle(one)
    chance.shuffle(other)
    times = [chance.randrange(2**31) for _ in files]
    with written(one) as first, written(other, times=times) as second:
        for split in ("train", "val"):
            assert shown(first, split) == shown(second, split) == expected(files, split)  # decoded
            assert shown(first, split) == shown(second, split) == expected(files, split)  # from the cache
        shutil.rmtree(cache_folder())
        assert shown(second) == expected(files)


@many
@given(files=data_sets())
def test_a_label_is_the_same_class_in_both_splits(files: frozenset[File]) -> None:
    with written(sorted(files)) as root:
        config = ImageFolderConfig(root=str(root))
        train, val = (
            ImageFolder(config, split=split, classes=None, image_shape=PIXEL).class_names for split in ("train", "val")
        )
    assert train == val == tuple(sorted({file.label for file in files}))


@many
@given(files=data_sets(), data=st.data())
def test_skipping_a_file_does_not_change_the_order_of_others(files: frozenset[File], data: st.DataObject) -> None:
    bad = data.draw(st.frozensets(st.sampled_from(sorted(files))))
    with written(sorted(files), bad) as root:
        for split in ("train", "val"):
            for _ in ("decoded", "from the cache"):
                assert shown(root, split, on_bad_image="skip") == expected(files - bad, split)
