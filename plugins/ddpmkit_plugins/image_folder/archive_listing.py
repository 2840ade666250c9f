"""Lists the images of an archive by split and class, from the names of its members, as `listing` does for folders."""

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from ddpmkit.plugin import InputError
from ddpmkit_plugins.image_folder.archive import Member
from ddpmkit_plugins.image_folder.listing import EXTENSIONS, Listing, has_image_suffix, unknown_class

_MAC_METADATA = "__MACOSX"
_ENDINGS = re.compile(r"(?i)(\.tar)?\.[^.]+$")
_log = logging.getLogger(__name__)

_Folders = Mapping[PurePosixPath, Mapping[str, Member]]
"""The images of each folder, by name."""


def list_members(
    path: Path, members: Sequence[Member], split: str, classes: Sequence[str] | None
) -> tuple[Listing, tuple[Member, ...]]:
    """The images of one split, sorted by class and name, with their paths below `path`; "val" may be empty.

    Both splits use the classes of "train", so that a label is the same class in both. Raises InputError if there is no
    training split or more than one, and for an unknown class.
    """
    folders: defaultdict[PurePosixPath, dict[str, Member]] = defaultdict(dict)
    for member in members:
        place = PurePosixPath(member.name)
        if has_image_suffix(place) and not _is_hidden(place):
            folders[place.parent][place.name] = member
    training = _training_folder(path, folders)
    folder = training if split == "train" else training.with_name(split) if training.name == "train" else None
    known = _class_folders(path, folders, training)
    names = tuple(sorted(known)) if classes is None else tuple(classes)
    for name in names:
        if name not in known:
            raise unknown_class(path / training, name, sorted(known))
    found = {} if folder is None else _class_folders(path, folders, folder)
    if folder is not None and folder in folders and folder not in found.values():
        _log.warning("images in no class folder are skipped: %d in %s", len(folders[folder]), path / folder)
    images = [
        (path / found[name] / file, label, folders[found[name]][file])
        for label, name in enumerate(names)
        if name in found
        for file in sorted(folders[found[name]])
    ]
    files, labels, chosen = zip(*images, strict=True) if images else ((), (), ())
    return Listing(names, files, labels), chosen


def _class_folders(path: Path, folders: _Folders, folder: PurePosixPath) -> dict[str, PurePosixPath]:
    """Class folders by name. Images without one are one class, named after the folder of the splits or the archive."""
    below = {place.name: place for place in folders if place.parent == folder and place != folder}
    if below or folder not in folders:
        return below
    root = folder.parent if folder.name in ("train", "val") else folder
    return {root.name or _ENDINGS.sub("", path.name): folder}


def _training_folder(path: Path, folders: _Folders) -> PurePosixPath:
    """The folder "train" with class folders, otherwise the one with images, otherwise the only folder with images."""
    found = {folder.parent for folder in folders if folder.parent.name == "train"}
    if not found:
        found = {folder for folder in folders if folder.name == "train"}
    if not found and len(folders) == 1:
        found = {folder for folder in folders if "val" not in folder.parts}
    if len(found) == 1:
        return found.pop()
    if not found:
        raise InputError(
            f"{path.absolute()} contains no training images.",
            remedies=[
                "the layout is train/<class>/*.jpg, and val/<class>/*.jpg for the validation loss, in a folder of the "
                "archive or at its top; images that are all in one folder are one class",
                f"images are files that end in {', '.join(sorted(EXTENSIONS))}",
            ],
        )
    named = ", ".join(sorted(map(str, found)))
    raise InputError(
        f"{path.absolute()} contains more than one training folder: {named}.",
        remedies=["use one archive for each"],
    )


def _is_hidden(place: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == _MAC_METADATA for part in place.parts)
