"""The datasets `image-folder` and `image-archive`."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ddpmkit.contracts import ImageShape, Inspection
from ddpmkit.pixel_cache import Decoded
from ddpmkit_plugins.image_folder import ImageArchiveConfig, ImageFolderConfig
from ddpmkit_plugins.image_folder.archive import Member, open_archive, read_member
from ddpmkit_plugins.image_folder.archive_listing import list_members
from ddpmkit_plugins.image_folder.decoded_images import (
    WORKERS,
    DecodedImages,
    archive_key,
    decode_once,
    listing_key,
)
from ddpmkit_plugins.image_folder.decoding import Source, decode_each
from ddpmkit_plugins.image_folder.inspection import inspect_folder
from ddpmkit_plugins.image_folder.listing import list_images


class ImageFolder(DecodedImages):
    """One split of `root/<split>/<class>/*`."""

    def __init__(
        self, config: ImageFolderConfig, *, split: str, classes: tuple[str, ...] | None, image_shape: ImageShape
    ) -> None:
        """Raises InputError for missing folders and, unless `on_bad_image` is "skip", for files that are not images."""
        root = Path(config.root).expanduser()
        listing = list_images(root, split, classes)

        def is_current(found: Decoded) -> bool:
            return not _any_fixed([root / name for name in found.bad], image_shape)

        key = listing_key(root, listing.files, image_shape)
        decoded = decode_once(
            key, root, split, listing.files, image_shape, lambda: enumerate(listing.files), is_current
        )
        advice = f": run `ddpmkit data check {shlex.quote(str(root))}` to list them all"
        super().__init__(root, listing, decoded, config.on_bad_image, advice)

    @classmethod
    def inspect(
        cls,
        config: ImageFolderConfig,
        *,
        classes: tuple[str, ...] | None,
        image_shape: ImageShape,
        progress: Callable[[int, int], None],
    ) -> Inspection:
        """Read every file of both splits without the cache. Raises InputError for folders that cannot be used."""
        return inspect_folder(Path(config.root).expanduser(), classes, image_shape, WORKERS, progress)


class ImageArchive(DecodedImages):
    """One split of `<split>/<class>/*` in an archive: the same images as `ImageFolder` after extraction."""

    def __init__(
        self, config: ImageArchiveConfig, *, split: str, classes: tuple[str, ...] | None, image_shape: ImageShape
    ) -> None:
        """Raises InputError for an unusable archive and, unless `on_bad_image` is "skip", for members not images."""
        path = Path(config.path).expanduser()
        with open_archive(path) as members:
            listing, chosen = list_members(path, members, split, classes)
            key = archive_key(path, listing.files, image_shape)
            decoded = decode_once(key, path, split, listing.files, image_shape, lambda: _read_members(chosen))
        super().__init__(path, listing, decoded, config.on_bad_image, advice="")


def _any_fixed(files: list[Path], shape: ImageShape) -> bool:
    """Whether some of these bad files can be decoded now: a changed permission, for example, changes no file time."""
    if not files:
        return False
    return len(decode_each(enumerate(files), shape, WORKERS, lambda _index, _pixels: None)) < len(files)


def _read_members(members: Sequence[Member]) -> Iterator[tuple[int, Source]]:
    """The content of each member with its index, in the order of the archive, which is the fastest."""
    for index in sorted(range(len(members)), key=lambda index: members[index].offset):
        yield index, read_member(members[index])
