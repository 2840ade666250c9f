"""Reads untrusted zip and tar archives without extracting them to disk, one member at a time.

All checksums of the formats are verified: of the members of a zip, of the headers of a tar, and of a gzip stream.
"""

import contextlib
import gzip
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from ddpmkit.plugin import InputError
from ddpmkit.zip_archive import MAX_RATIO, ZIP_METHODS, unsafe_path
from ddpmkit_plugins.image_folder.decoding import BadImage, Source

MAX_MEMBER = 2**28
"""Bytes of a member: about an uncompressed image of `decoding.MAX_PIXELS`."""
_BLOCK = 2**16
_PADDING = 2**24
"""Bytes of zeros that may follow a tar archive: more than the block size of any tape."""
_GZIP = b"\x1f\x8b"
_ZIP = b"PK"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Member(NamedTuple):
    """A member of an archive that is not a folder."""

    name: str
    size: int
    """In bytes, as the archive claims."""
    offset: int
    """Its position: reading a compressed tar in another order unpacks it again for each member."""
    is_file: bool
    """False for a link, a device or a pipe."""
    unpack: Callable[[], bytes]


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[list[Member]]:
    """The members of a .zip, a .tar or a .tar.gz, which can be read until the context ends.

    Raises InputError for a file that is not an intact archive, and for an archive with an unsafe member.
    """
    if not path.is_file():
        is_there = "is not a file" if path.exists() else "does not exist"
        raise InputError(
            f"the archive {path.absolute()} {is_there}.",
            remedies=[
                "add --set data.path=FILE to use another archive",
                'set data.use = "image-folder" to read a folder of images',
            ],
        )
    with path.open("rb") as file:
        yield _checked(path, _members(file, path.stat().st_size))


def read_member(member: Member) -> Source:
    """The content of a member, or why it cannot be read."""
    if not member.is_file:
        return BadImage("it is a link, a device or a pipe")
    if member.size > MAX_MEMBER:
        return BadImage(f"it claims {member.size:,} bytes, more than the limit")
    try:
        return member.unpack()
    except BadImage as error:
        return error
    except Exception as error:
        # zipfile, tarfile, gzip and zlib raise many exceptions for a damaged member.
        return BadImage(f"it cannot be unpacked ({error})")


def _checked(path: Path, members: Iterator[Member]) -> list[Member]:
    found: dict[PurePosixPath, Member] = {}
    claimed, most = 0, MAX_RATIO * path.stat().st_size
    after = ""
    try:
        for member in members:
            claimed += member.size
            reason = _objection(member.name)
            if claimed > most:
                reason = f"claims {claimed:,} bytes in an archive of {path.stat().st_size:,}: a decompression bomb"
            elif (place := PurePosixPath(member.name)) in found:
                reason = "exists twice"
            if reason is not None:
                raise InputError(f"{path} is refused: its member {member.name!r} {reason}.")
            found[place] = member
            after = f" after its member {member.name!r}"
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} is not an intact zip or tar archive: it cannot be read{after} ({error}).",
            remedies=[
                "download it again: it may be incomplete",
                "open it in an editor: it may be an error page of the server",
            ],
        ) from error
    return list(found.values())


def _objection(name: str) -> str | None:
    """Why a name is refused. Nothing is written, but only a hostile archive has such names."""
    if reason := unsafe_path(name):
        return reason
    return "has control characters in its name" if _CONTROL.search(name) else None


def _members(file: IO[bytes], size: int) -> Iterator[Member]:
    start = file.read(2)
    file.seek(0)
    if start == _ZIP:
        yield from _zip_members(zipfile.ZipFile(file))
    else:
        stream = _BoundedStream(
            cast(IO[bytes], gzip.GzipFile(fileobj=file)) if start == _GZIP else file, MAX_RATIO * size
        )
        yield from _tar_members(tarfile.TarFile(fileobj=cast(IO[bytes], stream)))
        stream.finish()


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():

        def unpack(info: zipfile.ZipInfo = info) -> bytes:
            if info.compress_type not in ZIP_METHODS:
                raise BadImage("it is compressed by a method other than deflate")
            with archive.open(info) as file:
                # With a size, it unpacks no more bytes than that, and then compares the checksum.
                return file.read(info.file_size)

        if not info.is_dir():
            kind = stat.S_IFMT(info.external_attr >> 16)
            yield Member(info.filename, info.file_size, info.header_offset, kind in (0, stat.S_IFREG), unpack)


def _tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:

        def unpack(info: tarfile.TarInfo = info) -> bytes:
            return cast(IO[bytes], archive.extractfile(info)).read()

        if not info.isdir():
            yield Member(info.name, info.size, info.offset, info.isreg(), unpack)


class _BoundedStream:
    """A stream with limits for `tarfile`, which reads as many bytes as a header claims, and unpacks skipped members."""

    def __init__(self, stream: IO[bytes], end: int) -> None:
        self._stream = stream
        self._end = end
        self._last = b""

    def read(self, size: int) -> bytes:
        if size > MAX_MEMBER:
            raise ValueError(f"a header claims {size:,} bytes")
        self._last = self._stream.read(size)
        return self._last

    def seek(self, position: int) -> int:
        if position > self._end:
            raise ValueError(f"it unpacks to more than {self._end:,} bytes: a decompression bomb")
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()

    def finish(self) -> None:
        """Check that the end of the archive was reached, and read to the checksum at the end of a gzip stream.

        `tarfile` takes a damaged header for the end of the archive: the last block that it read must be zeros.
        """
        if not self._last:
            raise ValueError("its end mark is missing")
        if self._last.strip(b"\0"):
            raise ValueError("the header of the next member is damaged")
        while self._stream.read(_BLOCK):
            if self._stream.tell() > self._end + _PADDING:
                raise ValueError(f"it unpacks to more than {self._end:,} bytes: a decompression bomb")
