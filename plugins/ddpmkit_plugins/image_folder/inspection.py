"""Checks every file of a folder of images, for `ddpmkit data check`."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpmkit.contracts import ImageShape, Inspection
from ddpmkit.plugin import sha256_file
from ddpmkit_plugins.image_folder.decoded_images import cached, listing_key
from ddpmkit_plugins.image_folder.decoding import decode_each
from ddpmkit_plugins.image_folder.listing import Listing, list_images, other_entries

_SPLITS = ("train", "val")
_MOST_NAMED = 3


def inspect_folder(
    root: Path,
    classes: Sequence[str] | None,
    shape: ImageShape,
    workers: int,
    progress: Callable[[int, int], None],
) -> Inspection:
    """Decode every image of both splits. Raises InputError for folders that cannot be used."""
    listings = {split: list_images(root, split, classes) for split in _SPLITS}
    files = [path for listing in listings.values() for path in listing.files]
    in_cache = _cached_pixels(root, listings.values(), shape)
    changed: list[Path] = []

    def compare(index: int, pixels: NDArray[np.uint8]) -> None:
        if (before := in_cache.get(files[index])) is not None and not np.array_equal(before, pixels):
            changed.append(files[index])

    failed = decode_each(enumerate(files), shape, workers, compare, lambda done: progress(done, len(files)))
    bad = {files[index]: failed[index] for index in sorted(failed)}
    alike = tuple(_alike([path for path in files if path not in bad]))
    return Inspection(
        counts={split: _counts(listing, bad) for split, listing in listings.items() if listing.files},
        bad=bad,
        alike=alike,
        notes=(*_changed_unseen(sorted(changed)), *_not_held_out(alike, listings["val"]), *_left_out(files)),
    )


def _cached_pixels(root: Path, listings: Iterable[Listing], shape: ImageShape) -> dict[Path, NDArray[np.uint8]]:
    """The pixels that training uses for each image that is in the cache in this shape."""
    pixels: dict[Path, NDArray[np.uint8]] = {}
    for listing in listings:
        found = cached(listing_key(root, listing.files, shape), len(listing.files), shape)
        if found is not None:
            bad = {root / name for name in found.bad}
            pixels |= zip((path for path in listing.files if path not in bad), found.pixels, strict=True)
    return pixels


def _changed_unseen(changed: Sequence[Path]) -> Iterator[str]:
    """A note about images that the cache, which compares names, sizes and times, does not decode again."""
    if changed:
        count = "1 image was" if len(changed) == 1 else f"{len(changed)} images were"
        named = ", ".join(map(str, changed[:_MOST_NAMED])) + (", ..." if changed[_MOST_NAMED:] else "")
        yield (
            f"{count} changed without a new size or time, so training uses the old pixels; after `touch` on "
            f"one, all are decoded again: {named}"
        )


def _counts(listing: Listing, bad: Iterable[Path]) -> dict[str, int]:
    labels = Counter(label for path, label in zip(listing.files, listing.labels, strict=True) if path not in bad)
    return {name: labels[label] for label, name in enumerate(listing.class_names)}


def _alike(files: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """Groups of files with the same content, in the order of the files. Only files of equal size are read."""
    sizes = {path: path.stat().st_size for path in files}
    times = Counter(sizes.values())
    by_content: defaultdict[str, list[Path]] = defaultdict(list)
    for path, size in sizes.items():
        if times[size] > 1:
            by_content[sha256_file(path)].append(path)
    return (tuple(group) for group in by_content.values() if len(group) > 1)


def _not_held_out(alike: Iterable[tuple[Path, ...]], held_out: Listing) -> Iterator[str]:
    """A note about images of "val" that are also in "train"."""
    split = set(held_out.files)
    seen = sum(len(split & set(group)) for group in alike if not split.issuperset(group))
    if seen:
        verb = "is" if seen == 1 else "are"
        yield f"{seen} of the images in val {verb} also in train: the validation loss is too low"


def _left_out(files: Sequence[Path]) -> Iterator[str]:
    """Notes about files that are skipped, often because the user expects that they are read."""
    for folder in sorted({path.parent for path in files}):
        kinds = Counter("folder" if path.is_dir() else path.suffix or "no suffix" for path in other_entries(folder))
        if kinds:
            named = ", ".join(f"{times} x {kind}" for kind, times in sorted(kinds.items()))
            yield f"skipped in {folder}, because their suffixes are not those of images: {named}"
