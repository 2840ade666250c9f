"""Which files there are: splits, classes, pictures, in an order that depends on names alone.

It does not open a picture.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ddpmkit.plugin import InputError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


class Listing(NamedTuple):
    """Class names in order, and for each picture its path and the index of its class."""

    class_names: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]


def list_pictures(root: Path, split: str, classes: Sequence[str] | None) -> Listing:
    """The pictures of one split, sorted by class and name; a missing "val" is empty.

    Raises InputError for a missing folder, an unknown class or a class without pictures.
    """
    folder = root / split
    if split == "val" and root.is_dir() and not folder.is_dir():
        return Listing(tuple(classes or ()), (), ())
    if not folder.is_dir():
        raise _missing(root, folder)
    present = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = tuple(classes) if classes is not None else tuple(present)
    if not names:
        raise InputError(f"{folder.resolve()} holds no class folder.", remedies=_layout(root))
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        if name not in present:
            if split == "val":
                continue
            raise _unknown_class(folder, name, present)
        pictures = sorted(path for path in (folder / name).iterdir() if _is_picture(path))
        if not pictures and split == "train":
            raise InputError(
                f"the class folder {(folder / name).resolve()} holds no picture.",
                remedies=[f"pictures are files that end in {', '.join(sorted(EXTENSIONS))}"],
            )
        files += pictures
        labels += [label] * len(pictures)
    return Listing(names, tuple(files), tuple(labels))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def _layout(root: Path) -> list[str]:
    return [
        f"the layout is {root}/train/<class>/*.jpg, and {root}/val/<class>/*.jpg for the validation loss",
        "ddpmkit data fetch afhq  gets Animal Faces-HQ into data/afhq",
        "--set data.root=DIR  names another folder",
    ]


def _missing(root: Path, folder: Path) -> InputError:
    looked_for = folder if root.is_dir() else root
    return InputError(f"the data folder {looked_for.resolve()} does not exist.", remedies=_layout(root))


def _unknown_class(folder: Path, name: str, present: Sequence[str]) -> InputError:
    close = difflib.get_close_matches(name, present, n=1)
    guess = [f"did you mean {close[0]!r}?"] if close else []
    return InputError(
        f"there is no class {name!r} in {folder.resolve()}.",
        remedies=[*guess, f"classes there: {', '.join(present) or 'none'}"],
    )
