"""Lists the images of a folder by split and class, in an order that depends on their names only."""

import difflib
import errno
import logging
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from ddpmkit.plugin import InputError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_LINKS = {errno.ENOENT: "it is a broken link", errno.ELOOP: "it is a circular link"}
_log = logging.getLogger(__name__)


class Listing(NamedTuple):
    """Class names in order, and for each image its path and the index of its class."""

    class_names: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]


def list_images(root: Path, split: str, classes: Sequence[str] | None) -> Listing:
    """The images of one split, sorted by class and name; a missing "val" is empty.

    Both splits use the classes of "train", so that a label is the same class in both. Raises InputError for a missing
    folder, an unknown class, a class without images or a folder that cannot be read.
    """
    try:
        return _listed(root, split, classes)
    except OSError as error:
        folder = Path(error.filename)
        raise InputError(
            f"the folder {folder.absolute()} cannot be used: {why_unreadable(folder, error)}.",
            remedies=["fix it, or remove it", "add --set data.classes='[\"cat\"]' to choose the classes"],
        ) from error


def _listed(root: Path, split: str, classes: Sequence[str] | None) -> Listing:
    training = _training_folder(root)
    folder = training if split == "train" else root / split
    known = _class_folders(root, training)
    if not known:
        raise InputError(f"{training.absolute()} contains no class folder and no image.", remedies=_layout(root))
    names = tuple(known) if classes is None else tuple(classes)
    for name in names:
        if name not in known:
            raise unknown_class(training, name, tuple(known))
    found = known if folder == training else _class_folders(root, folder) if folder.is_dir() else {}
    if found and folder not in found.values() and (loose := _images(folder)):
        _log.warning("images in no class folder are skipped: %d in %s", len(loose), folder)
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        images = _images(found[name]) if name in found else []
        if not images and split == "train":
            raise InputError(
                f"the class folder {found[name].absolute()} contains no image.",
                remedies=[f"images are files that end in {', '.join(sorted(EXTENSIONS))}"],
            )
        files += images
        labels += [label] * len(images)
    return Listing(names, tuple(files), tuple(labels))


def _training_folder(root: Path) -> Path:
    """`root/train`, or `root` itself if it is a folder with images only."""
    folder = root / "train"
    if folder.is_dir():
        return folder
    if root.is_dir() and root in _class_folders(root, root).values():
        return root
    looked_for = folder if root.is_dir() else root
    fault = "is not a folder" if looked_for.exists() else "does not exist"
    raise InputError(f"the data folder {looked_for.absolute()} {fault}.", remedies=_layout(root))


def _class_folders(root: Path, folder: Path) -> dict[str, Path]:
    """Class folders by name. Images without class folders are one class, named after `root` in every split.

    Broken links are included, so that they are reported as folders that cannot be read.
    """
    entries = [path for path in sorted(folder.iterdir()) if not _is_hidden(path)]
    if not any(path.is_dir() for path in entries) and _images(folder):
        return {root.resolve().name: folder}
    return {path.name: path for path in entries if path.is_dir() or _is_broken_link(path)}


def _images(folder: Path) -> list[Path]:
    """Sorted by name. Broken links are included, so that they are reported as files that cannot be read."""
    return sorted(path for path in folder.iterdir() if has_image_suffix(path) and not path.is_dir())


def other_entries(folder: Path) -> list[Path]:
    """All entries of a folder that are neither images nor hidden."""
    images = set(_images(folder))
    return [path for path in sorted(folder.iterdir()) if path not in images and not _is_hidden(path)]


def has_image_suffix(path: PurePath) -> bool:
    """Whether a path has the suffix of an image and is not hidden."""
    return path.suffix.lower() in EXTENSIONS and not _is_hidden(path)


def _is_broken_link(path: Path) -> bool:
    """A link to a class folder that does not exist; a broken link to an image has its suffix."""
    return path.is_symlink() and not path.exists() and not has_image_suffix(path)


def _is_hidden(path: PurePath) -> bool:
    return path.name.startswith(".")


def _layout(root: Path) -> list[str]:
    return [
        f"the layout is {root}/train/<class>/*.jpg, and {root}/val/<class>/*.jpg for the validation loss; "
        "a folder with images only is one class",
        "run `ddpmkit data fetch afhq` to download Animal Faces-HQ to data/afhq",
        "add --set data.root=DIR to use another folder",
    ]


def why_unreadable(path: Path, error: OSError) -> str:
    """Why a file or a folder cannot be read: a clause that begins with "it"."""
    if error.errno in _LINKS and path.is_symlink():
        return _LINKS[error.errno]
    return f"it cannot be read ({(error.strerror or str(error)).lower()})"


def unknown_class(folder: Path, name: str, present: Sequence[str]) -> InputError:
    """The error for a class that the recipe requests and `folder` does not have."""
    close = difflib.get_close_matches(name, present, n=1)
    guess = [f"did you mean {close[0]!r}?"] if close else []
    return InputError(
        f"there is no class {name!r} in {folder.absolute()}.",
        remedies=[*guess, f"available classes: {', '.join(present)}", "add --set data.classes=all to use all of them"],
    )
