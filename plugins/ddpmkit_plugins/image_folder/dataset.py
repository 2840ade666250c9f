"""Pictures in folders as a dataset.

It does not know how they are decoded and kept.
"""

import shlex
from collections.abc import Callable
from pathlib import Path

from ddpmkit.contracts import ImageShape, Inspection
from ddpmkit.pixel_cache import Decoded
from ddpmkit_plugins.image_folder import ImageFolderConfig, cache
from ddpmkit_plugins.image_folder.decoding import decode_each
from ddpmkit_plugins.image_folder.image_files import WORKERS, Pictures, decoded_once
from ddpmkit_plugins.image_folder.inspection import inspect_folder
from ddpmkit_plugins.image_folder.listing import list_pictures


class ImageFolder(Pictures):
    """One split of `root/<split>/<class>/*`."""

    def __init__(
        self, config: ImageFolderConfig, *, split: str, classes: tuple[str, ...] | None, image_shape: ImageShape
    ) -> None:
        """Raises InputError for folders that are not there and, by policy, for files that are no pictures."""
        root = Path(config.root).expanduser()
        listing = list_pictures(root, split, classes)

        def is_current(found: Decoded) -> bool:
            return not _is_mended([root / name for name in found.bad], image_shape)

        key = cache.listing_key(root, listing.files, image_shape)
        decoded = decoded_once(
            key, root, split, listing.files, image_shape, lambda: enumerate(listing.files), is_current
        )
        advice = f": `ddpmkit data check {shlex.quote(str(root))}` lists them all"
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
        """Every file of both splits, whatever the cache says. Raises InputError for folders that cannot be used."""
        return inspect_folder(Path(config.root).expanduser(), classes, image_shape, WORKERS, progress)


def _is_mended(files: list[Path], shape: ImageShape) -> bool:
    """Whether some of these bad files can be decoded by now: permission granted, for one, changes no date."""
    if not files:
        return False
    return len(decode_each(enumerate(files), shape, WORKERS, lambda _place, _pixels: None)) < len(files)
