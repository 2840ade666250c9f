"""Downloads Animal Faces-HQ (Choi et al. 2020, "StarGAN v2") and extracts it for the dataset `image-folder`.

The data set is licensed CC BY-NC 4.0.
"""

import contextlib
import logging
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from ddpmkit.download import download
from ddpmkit.errors import InputError
from ddpmkit.file_lock import lock_file
from ddpmkit.zip_archive import extract_archive

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
    """Download and extract AFHQ so that `destination` contains `train/{cat,dog,wild}` and `val/{cat,dog,wild}`.

    Do nothing if they exist; wait if another process is doing the same. Other files in `destination` are not changed.
    Raises InputError if the archive cannot be downloaded, is damaged, or has other contents.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    # Next to the destination, so that the final move is a rename. Only this function writes there, so the process that
    # has the lock may delete what a killed process left.
    work = destination.with_name(f".{destination.name}.partial")
    with lock_file(destination.with_name(f".{destination.name}.lock"), destination):
        if (destination / "train").is_dir() and (destination / "val").is_dir():
            _log.warning("%s already contains train/ and val/: nothing was downloaded", destination)
        else:
            _fetch(url or AFHQ_URLS[version], work, f"afhq_v{version}.zip", destination, progress)
        shutil.rmtree(work, ignore_errors=True)
    return destination


def _fetch(url: str, work: Path, name: str, destination: Path, progress: Callable[[int, int | None], None]) -> None:
    """Download to the folder `work`, where a partial file stays for the next attempt, and extract."""
    archive = work / name
    try:
        download(url, archive, progress=progress)
        if not zipfile.is_zipfile(archive):
            # Some servers send a web page with "try again later"; it must not block the next attempt.
            archive.unlink()
            raise InputError(f"{url} did not send a zip archive.", remedies=["try again later", "--url URL"])
        _extract(archive, work / "unpacked", destination)
    finally:
        with contextlib.suppress(OSError):
            work.rmdir()  # fails, as it should, if a partial file is in it


def _extract(archive: Path, folder: Path, destination: Path) -> None:
    """Move both splits to `destination`: with one rename, or with two if `destination` exists."""
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
    """The folders of the splits, at any depth of the archive."""
    trains = (
        path for path in folder.rglob("train") if path.is_dir() and any(child.is_dir() for child in path.iterdir())
    )
    train = min(trains, key=lambda path: len(path.parts), default=None)
    if train is None:
        raise InputError(f"{archive} has no train/<class> folders.", remedies=[f"remove {archive}"])
    # Version 2 names its held-out images "test".
    val = next((path for name in ("val", "test") if (path := train.with_name(name)).is_dir()), None)
    if val is None:
        raise InputError(f"{archive} has no val or test folder.", remedies=[f"remove {archive}"])
    return {"train": train, "val": val}
