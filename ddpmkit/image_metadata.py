"""Image files without what their pixels do not need: damaged metadata must not make an image unreadable."""

import zlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["without_metadata"]

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_LARGEST = 2**28
"""Bytes of a file that are read for this."""


def without_metadata(file: Path | bytes) -> bytes | None:
    """The content of a PNG or JPEG file with nothing but what makes its pixels, and its EXIF orientation.

    None for other files, and if there is nothing to leave out.
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            start = opened.read(len(_PNG))
            content = start + opened.read(_LARGEST) if start.startswith((_PNG, _JPEG)) else start
    else:
        content = file
    if content.startswith(_PNG):
        plain = _PNG + b"".join(_needed_chunks(content))
    elif content.startswith(_JPEG):
        plain = _JPEG + b"".join(_needed_segments(content))
    else:
        return None
    return plain if len(plain) < len(content) else None


def _needed_chunks(png: bytes) -> Iterator[bytes]:
    """Length, kind, data and checksum of each. Kinds in lower case can be ignored: PNG specification, section 5.4."""
    place = len(_PNG)
    while place + 12 <= len(png):
        end = place + 12 + int.from_bytes(png[place : place + 4], "big")
        kind = png[place + 4 : place + 8]
        is_whole = zlib.crc32(png[place + 4 : end - 4]) == int.from_bytes(png[end - 4 : end], "big")
        if kind[:1].isupper() or kind == b"tRNS" or (kind == b"eXIf" and is_whole):
            yield png[place:end]
        place = end


def _needed_segments(jpeg: bytes) -> Iterator[bytes]:
    """All but comments and application data, of which JFIF and Adobe's tell the colours. ITU-T T.81, annex B."""
    place = len(_JPEG)
    while place + 4 <= len(jpeg) and jpeg[place] == 0xFF and jpeg[place + 1] != 0xDA:  # the image itself begins
        if jpeg[place + 1] == 0xFF:  # fill bytes
            place += 1
            continue
        marker, end = jpeg[place + 1], place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        data = jpeg[place + 4 : end]
        tells_colours = (data.startswith(b"JFIF\0") and len(data) >= 14) or (data[:5] == b"Adobe" and len(data) >= 12)
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_metadata or tells_colours or data.startswith(b"Exif\0\0"):
            yield jpeg[place:end]
        place = end
    yield jpeg[place:]
