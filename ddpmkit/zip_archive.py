"""Zip archives from untrusted sources: checked before anything is written, and never extracted outside a folder."""

import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from ddpmkit.errors import InputError

__all__ = ["MAX_RATIO", "ZIP_METHODS", "check_archive", "extract_archive", "unsafe_path"]

MAX_RATIO = 200
"""What unpacks to more than this times its packed size is a decompression bomb; images are hardly compressible."""
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Other methods allocate memory by what the archive claims: LZMA up to 4 GiB."""

# Names that another system takes for a device, or shortens to the name of another member.
_ODD_NAME = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?|.*[. ]|.*[\x00-\x1f\x7f].*", re.DOTALL)
_LONGEST_NAME = 255
_LOCAL_HEADER = 30
"""Bytes before the name and the content of a member (APPNOTE 4.3.7)."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, ValueError)
"""What `zipfile` raises for a damaged archive; ValueError also for a name that is not text."""


def check_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip archive and check every member: checksum, path, size, type, and that no two have one path.

    Raises InputError, which names the first member that fails.
    """
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise InputError(
            f"{path} is not a zip archive ({error}).",
            remedies=[
                f"remove {path} and run the same command again",
                "open it in an editor: it may be an error page of the server",
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
    """Check an archive and extract it to `folder`, completely or not at all.

    Raises InputError if the archive fails a check or the disk is too small, and OSError if `folder` cannot be written
    or is not empty.
    """
    with check_archive(path) as archive:
        wanted = sum(member.file_size for member in archive.infolist())
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if wanted > free:
            raise InputError(f"{path} unpacks to {wanted / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free.")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            complete = Path(temporary) / "complete"
            complete.mkdir()
            archive.extractall(complete)
            complete.rename(folder)


def unsafe_path(name: str) -> str | None:
    """Return why the path of a member may lead out of the folder that it is extracted to; None if it does not."""
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or PureWindowsPath(name).root:
        return "has an absolute path"
    if ".." in PureWindowsPath(name).parts:  # which splits at / and at \
        return "points outside the archive"
    return None


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    for member in archive.infolist():
        place = _portable_path(member)
        if reason := _objection(member):
            raise InputError(f"{path} is refused: its member {member.filename!r} {reason}.")
        if place in files or (place in folders and not member.is_dir()) or not files.isdisjoint(place.parents):
            raise InputError(f"{path} is refused: it has {member.filename!r} twice.")
        (folders if member.is_dir() else files).add(place)
        folders.update(place.parents)


def _portable_path(member: zipfile.ZipInfo) -> PurePosixPath:
    """Return the path of a member; equal for names that are the same file on some file system."""
    return PurePosixPath(unicodedata.normalize("NFC", member.filename).casefold())


def _check_overlap(path: Path, archive: zipfile.ZipFile) -> None:
    """Reject members that share bytes: so a small file unpacks to any size (Fifield 2019, "A better zip bomb")."""
    end = 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise InputError(f"{path} is refused: its member {member.filename!r} overlaps another one.")
        end = member.header_offset + _LOCAL_HEADER + member.compress_size


def _objection(member: zipfile.ZipInfo) -> str | None:
    name = member.filename
    if reason := unsafe_path(name):
        return reason
    if not PurePosixPath(name).parts:
        return "has no name"
    for part in PureWindowsPath(name).parts:
        if _ODD_NAME.fullmatch(part):
            return "has a name that is not portable"
        if len(part.encode()) > _LONGEST_NAME:
            return "has a name that is too long"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a device or a pipe"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if member.compress_type not in ZIP_METHODS:
        return "is compressed by a method other than deflate"
    if member.file_size > MAX_RATIO * max(member.compress_size, 1024):
        return f"claims to unpack {member.compress_size:,} bytes to {member.file_size:,}"
    return None
