"""Pictures in an archive as a dataset.

It does not know how an archive is read, nor how pictures are decoded and kept.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ddpmkit.contracts import ImageShape
from ddpmkit_plugins.image_folder import ImageArchiveConfig, cache
from ddpmkit_plugins.image_folder.archive import Member, content, open_archive
from ddpmkit_plugins.image_folder.archive_listing import list_members
from ddpmkit_plugins.image_folder.decoding import Source
from ddpmkit_plugins.image_folder.image_files import Pictures, decoded_once


class ImageArchive(Pictures):
    """One split of `<split>/<class>/*`, the same as `ImageFolder` shows when the archive is unpacked."""

    def __init__(
        self, config: ImageArchiveConfig, *, split: str, classes: tuple[str, ...] | None, image_shape: ImageShape
    ) -> None:
        """Raises InputError for an archive that cannot be used and, by policy, for members that are no pictures."""
        path = Path(config.path).expanduser()
        with open_archive(path) as members:
            listing, chosen = list_members(path, members, split, classes)
            key = cache.archive_key(path, listing.files, image_shape)
            decoded = decoded_once(key, path, split, listing.files, image_shape, lambda: _contents(chosen))
        super().__init__(path, listing, decoded, config.on_bad_image, advice="")


def _contents(members: Sequence[Member]) -> Iterator[tuple[int, Source]]:
    for place in sorted(range(len(members)), key=lambda place: members[place].offset):
        yield place, content(members[place])
