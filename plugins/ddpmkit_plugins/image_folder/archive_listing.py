"""Which pictures an archive holds: splits and classes from the names of its members alone.

It does not read a picture.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ddpmkit.plugin import InputError
from ddpmkit_plugins.image_folder.archive import Member
from ddpmkit_plugins.image_folder.listing import EXTENSIONS, Listing, is_named_like_picture, unknown_class

_OF_A_MAC = "__MACOSX"


def list_members(
    path: Path, members: Sequence[Member], split: str, classes: Sequence[str] | None
) -> tuple[Listing, tuple[Member, ...]]:
    """The pictures of one split, by class and name, with their paths below that of the archive; "val" may be empty.

    The classes are those of "train" in both splits, so that a label means the same in both. Raises InputError where
    there is no training split or more than one, and for an unknown class.
    """
    by_folder: defaultdict[PurePosixPath, defaultdict[str, dict[str, Member]]] = defaultdict(lambda: defaultdict(dict))
    for member in members:
        place = PurePosixPath(member.name)
        if len(place.parts) >= 3 and is_named_like_picture(place) and not _is_hidden(place):
            by_folder[place.parent.parent][place.parent.name][place.name] = member
    training = _training_folder(path, [folder for folder in by_folder if folder.name == "train"])
    known = tuple(sorted(by_folder[training]))
    names = known if classes is None else tuple(classes)
    for name in names:
        if name not in known:
            raise unknown_class(path / training, name, known)
    found = by_folder[training.with_name(split)]
    pictures = [
        (path / training.with_name(split) / name / file, label, found[name][file])
        for label, name in enumerate(names)
        for file in sorted(found[name])
    ]
    files, labels, chosen = zip(*pictures, strict=True) if pictures else ((), (), ())
    return Listing(names, files, labels), chosen


def _training_folder(path: Path, candidates: Sequence[PurePosixPath]) -> PurePosixPath:
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise InputError(
            f"{path.absolute()} holds no pictures to train on.",
            remedies=[
                "the layout is train/<class>/*.jpg, and val/<class>/*.jpg for the validation loss, in a folder of the "
                "archive or in none",
                f"pictures are files that end in {', '.join(sorted(EXTENSIONS))}",
            ],
        )
    named = ", ".join(sorted(map(str, candidates)))
    raise InputError(
        f"{path.absolute()} holds more than one folder to train on: {named}.", remedies=["pack them one by one"]
    )


def _is_hidden(place: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == _OF_A_MAC for part in place.parts)
