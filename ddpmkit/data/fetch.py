"""Animal Faces-HQ (Choi et al. 2020, "StarGAN v2"): from its archive to the folders that `image-folder` reads.

CC BY-NC 4.0. It does not know how pictures are decoded.
"""

import logging
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from ddpmkit.data.archive import extract_archive
from ddpmkit.download import download
from ddpmkit.errors import InputError

__all__ = ["AFHQ_URLS", "fetch_afhq"]

AFHQ_URLS = {
    1: "https://www.dropbox.com/s/t9l9o3vsx2jai3z/afhq.zip?dl=1",
    2: "https://www.dropbox.com/s/vkzjokiwof5h8w6/afhq_v2.zip?dl=1",
}
# Version 2 calls its held-out images "test".
_SPLITS = {"train": "train", "val": "val", "test": "val"}
_log = logging.getLogger(__name__)


def fetch_afhq(
    destination: Path,
    version: int = 1,
    *,
    url: str | None = None,
    progress: Callable[[int, int | None], None] = lambda _here, _total: None,
) -> Path:
    """Download and unpack AFHQ so that `destination` holds `train/{cat,dog,wild}` and `val/{cat,dog,wild}`.

    Does nothing when they are there. Raises InputError when the archive cannot be had, is damaged, or holds other
    things; whatever `destination` held before is left alone.
    """
    if (destination / "train").is_dir() and (destination / "val").is_dir():
        _log.info("%s is there already", destination)
        return destination
    archive = destination.parent / f"afhq_v{version}.zip"
    if not archive.exists():
        download(url or AFHQ_URLS[version], archive, progress=progress)
    if not zipfile.is_zipfile(archive):
        # Some servers answer with a page that asks to come back later: it must not stand in the way of the next try.
        archive.unlink()
        raise InputError(
            f"what {url or AFHQ_URLS[version]} sent is no zip archive.", remedies=["try again later", "--url URL"]
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    # Beside the destination, so that moving into place is a rename.
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as temporary:
        extract_archive(archive, Path(temporary))
        for source, split in _splits(archive, Path(temporary)).items():
            destination.mkdir(exist_ok=True)
            if not (destination / split).exists():
                source.rename(destination / split)
    archive.unlink()
    return destination


def _splits(archive: Path, folder: Path) -> dict[Path, str]:
    """The folders that hold the splits, whatever folder the archive wraps them in."""
    train = min(folder.rglob("train"), key=lambda path: len(path.parts), default=None)
    if train is None or not any(path.is_dir() for path in train.iterdir()):
        raise InputError(f"{archive} holds no train/<class> folders.", remedies=[f"remove {archive}"])
    beside = {path: _SPLITS[path.name] for path in train.parent.iterdir() if path.name in _SPLITS}
    if "val" not in beside.values():
        raise InputError(f"{archive} holds no val or test folder.", remedies=[f"remove {archive}"])
    return beside
