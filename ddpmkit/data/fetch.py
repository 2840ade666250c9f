"""Animal Faces-HQ (Choi et al. 2020, "StarGAN v2"): from its archive to the folders that `image-folder` reads.

CC BY-NC 4.0.
"""

import contextlib
import logging
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from ddpmkit.archive import extract_archive
from ddpmkit.download import download
from ddpmkit.errors import InputError
from ddpmkit.file_lock import lock_file

__all__ = ["AFHQ_URLS", "fetch_afhq"]

AFHQ_URLS = {
    1: "https://www.dropbox.com/s/t9l9o3vsx2jai3z/afhq.zip?dl=1",
    2: "https://www.dropbox.com/s/vkzjokiwof5h8w6/afhq_v2.zip?dl=1",
}
_log = logging.getLogger(__name__)


def fetch_afhq(
    destination: Path,
    version: int = 1,
    *,
    url: str | None = None,
    progress: Callable[[int, int | None], None] = lambda _here, _total: None,
) -> Path:
    """Download and unpack AFHQ so that `destination` holds `train/{cat,dog,wild}` and `val/{cat,dog,wild}`.

    Does nothing when they are there, and waits for another process that is at it. Raises InputError when the archive
    cannot be had, is damaged, or holds other things; whatever `destination` held before is left alone.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    # Beside the destination, so that moving into place is a rename. Nothing but this function writes there, so that
    # whoever has the turn may delete what a killed process left.
    work = destination.with_name(f".{destination.name}.partial")
    with lock_file(destination.with_name(f".{destination.name}.lock"), destination):
        if (destination / "train").is_dir() and (destination / "val").is_dir():
            _log.warning("%s holds train/ and val/ already: nothing was downloaded", destination)
        else:
            _fetch(url or AFHQ_URLS[version], work, f"afhq_v{version}.zip", destination, progress)
        shutil.rmtree(work, ignore_errors=True)
    return destination


def _fetch(url: str, work: Path, name: str, destination: Path, progress: Callable[[int, int | None], None]) -> None:
    """Download to the folder `work`, where a part waits for the next attempt, and unpack."""
    archive = work / name
    try:
        download(url, archive, progress=progress)
        if not zipfile.is_zipfile(archive):
            # Some servers send a page that asks to come back later: it must not stand in the way of the next try.
            archive.unlink()
            raise InputError(f"what {url} sent is not a zip archive.", remedies=["try again later", "--url URL"])
        _unpack(archive, work / "unpacked", destination)
    finally:
        with contextlib.suppress(OSError):
            work.rmdir()  # unless something in it is worth keeping


def _unpack(archive: Path, folder: Path, destination: Path) -> None:
    """Both splits appear in `destination` by one rename, beside what was there before by two."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        extract_archive(archive, folder / "archive")
        splits = folder / "splits"
        splits.mkdir()
        for name, split in _splits(archive, folder / "archive").items():
            split.rename(splits / name)
        if not destination.exists():
            splits.rename(destination)
            return
        for split in splits.iterdir():
            if not (destination / split.name).exists():
                split.rename(destination / split.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _splits(archive: Path, folder: Path) -> dict[str, Path]:
    """The folders that hold the splits, whatever folder the archive wraps them in."""
    trains = (
        path for path in folder.rglob("train") if path.is_dir() and any(child.is_dir() for child in path.iterdir())
    )
    train = min(trains, key=lambda path: len(path.parts), default=None)
    if train is None:
        raise InputError(f"{archive} holds no train/<class> folders.", remedies=[f"remove {archive}"])
    # Version 2 calls its held-out images "test".
    val = next((path for name in ("val", "test") if (path := train.with_name(name)).is_dir()), None)
    if val is None:
        raise InputError(f"{archive} holds no val or test folder.", remedies=[f"remove {archive}"])
    return {"train": train, "val": val}
