"""Zip archives from strangers: checked before a byte is written, and nothing is written outside.

It does not know what is in them.
"""

import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from ddpmkit.errors import InputError

__all__ = ["check_archive", "extract_archive"]

MAX_RATIO = 200
"""A member that grows by more than this is a bomb; pictures hardly shrink at all."""

# Names that another system takes for a device, or shortens to the name of another member.
_ODD_NAME = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?|.*[. ]|.*[\x00-\x1f\x7f].*", re.DOTALL)
_LONGEST_NAME = 255
_LOCAL_HEADER = 30
"""Bytes before the name and the content of a member (APPNOTE 4.3.7)."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, ValueError)
"""What `zipfile` raises for a damaged archive; ValueError also for a name that is no text."""


def check_archive(path: Path) -> zipfile.ZipFile:
    """Open an archive whose every member is whole, stays inside, and has a sane size and a name of its own.

    Raises InputError, which names the first member that is not so.
    """
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise InputError(
            f"{path} is no zip archive ({error}).",
            remedies=[
                f"remove {path} and give the same command again",
                "look at it: servers send error pages as files",
            ],
        ) from error
    try:
        _check_members(path, archive)
        _check_overlap(path, archive)
        if (damaged := archive.testzip()) is not None:
            raise InputError(f"{path} is damaged: the checksum of {damaged!r} is wrong.", remedies=[f"remove {path}"])
    except InputError:
        archive.close()
        raise
    except _DAMAGE as error:
        archive.close()
        raise InputError(f"{path} is damaged: {error}.", remedies=[f"remove {path}"]) from error
    return archive


def extract_archive(path: Path, folder: Path) -> None:
    """Unpack a checked archive to `folder`, which is there whole afterwards or not at all.

    Raises InputError when the archive is refused or the disk is too small, and OSError when it cannot be written or
    `folder` holds something already.
    """
    with check_archive(path) as archive:
        wanted = sum(member.file_size for member in archive.infolist())
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if wanted > free:
            raise InputError(f"{path} unpacks to {wanted / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free.")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            whole = Path(temporary) / "whole"
            whole.mkdir()
            archive.extractall(whole)
            whole.rename(folder)


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    for member in archive.infolist():
        place = _place(member)
        if reason := _objection(member):
            raise InputError(f"{path} is refused: its member {member.filename!r} {reason}.")
        if place in files or (place in folders and not member.is_dir()) or not files.isdisjoint(place.parents):
            raise InputError(f"{path} is refused: it has {member.filename!r} twice.")
        (folders if member.is_dir() else files).add(place)
        folders.update(place.parents)


def _place(member: zipfile.ZipInfo) -> PurePosixPath:
    """Where it would lie; equal for names that some file system takes for one."""
    return PurePosixPath(unicodedata.normalize("NFC", member.filename).casefold())


def _check_overlap(path: Path, archive: zipfile.ZipFile) -> None:
    """Members that share their bytes are how a small file unpacks to any size: Fifield, "A better zip bomb" (2019)."""
    end = 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise InputError(f"{path} is refused: its member {member.filename!r} overlaps another one.")
        end = member.header_offset + _LOCAL_HEADER + member.compress_size


def _objection(member: zipfile.ZipInfo) -> str | None:
    name = member.filename
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or PureWindowsPath(name).root:
        return "has an absolute path"
    if ".." in PurePosixPath(name).parts or ".." in PureWindowsPath(name).parts:
        return "leads out of the archive"
    if not PurePosixPath(name).parts:
        return "has no name"
    for part in PureWindowsPath(name).parts:
        if _ODD_NAME.fullmatch(part):
            return "has a name that is none everywhere"
        if len(part.encode()) > _LONGEST_NAME:
            return "has a name that is too long"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a device or a pipe"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Others ask for memory by what they say of themselves: LZMA up to 4 GiB.
        return "is packed by another method than deflate"
    if member.file_size > MAX_RATIO * max(member.compress_size, 1024):
        return f"claims to unpack {member.compress_size:,} bytes to {member.file_size:,}"
    return None
