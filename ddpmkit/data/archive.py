"""Zip archives from strangers: checked before a byte is written, and nothing is written outside.

It does not know what is in them.
"""

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from ddpmkit.errors import InputError

__all__ = ["check_archive", "extract_archive"]

MAX_RATIO = 200
"""A member that grows by more than this is a bomb; pictures hardly shrink at all."""


def check_archive(path: Path) -> zipfile.ZipFile:
    """Open an archive whose every member is whole, stays inside, and has a sane size.

    Raises InputError, which names the first member that is not so.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(
            f"{path} is no zip archive ({error}).",
            remedies=[
                f"remove {path} and give the same command again",
                "look at it: servers send error pages as files",
            ],
        ) from error
    try:
        for member in archive.infolist():
            if reason := _objection(member):
                raise InputError(f"{path} is refused: its member {member.filename!r} {reason}.")
        _check_overlap(path, archive)
        if (damaged := archive.testzip()) is not None:
            raise InputError(f"{path} is damaged: the checksum of {damaged!r} is wrong.", remedies=[f"remove {path}"])
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError) as error:
        archive.close()
        raise InputError(f"{path} is damaged: {error}.", remedies=[f"remove {path}"]) from error
    except InputError:
        archive.close()
        raise
    return archive


def extract_archive(path: Path, folder: Path) -> None:
    """Unpack a checked archive into `folder`. Raises InputError when it is refused or the disk is too small."""
    with check_archive(path) as archive:
        wanted = sum(member.file_size for member in archive.infolist())
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if wanted > free:
            raise InputError(f"{path} unpacks to {wanted / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free.")
        archive.extractall(folder)


def _check_overlap(path: Path, archive: zipfile.ZipFile) -> None:
    """Members that share their bytes are how a small file unpacks to any size (Fifield 2019); or one hides another."""
    names: set[str] = set()
    end = 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise InputError(f"{path} is refused: its member {member.filename!r} overlaps another one.")
        end = member.header_offset + member.compress_size
        if (name := member.filename.rstrip("/").casefold()) in names:
            raise InputError(f"{path} is refused: it has {member.filename!r} twice.")
        names.add(name)


def _objection(member: zipfile.ZipInfo) -> str | None:
    name = member.filename
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or PureWindowsPath(name).root:
        return "has an absolute path"
    if ".." in PurePosixPath(name).parts or ".." in PureWindowsPath(name).parts:
        return "leads out of the archive"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a device or a pipe"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if member.file_size > MAX_RATIO * max(member.compress_size, 1024):
        return f"claims to unpack {member.compress_size:,} bytes to {member.file_size:,}"
    return None
