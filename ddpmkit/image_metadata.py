"""Removes metadata from image files, because damaged metadata must not make an image unreadable."""

import zlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["without_metadata"]

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_MOST_BYTES = 2**28


def without_metadata(file: Path | bytes) -> bytes | None:
    """Return the content of a PNG or JPEG file with only the data that its pixels need, and its EXIF orientation.

    None for other files, and if there is nothing to remove.
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            start = opened.read(len(_PNG))
            content = start + opened.read(_MOST_BYTES) if start.startswith((_PNG, _JPEG)) else start
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
    """Chunks (length, type, data, checksum). Types in lower case are optional: PNG specification, section 5.4."""
    start = len(_PNG)
    while start + 12 <= len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        kind = png[start + 4 : start + 8]
        is_intact = zlib.crc32(png[start + 4 : end - 4]) == int.from_bytes(png[end - 4 : end], "big")
        if kind[:1].isupper() or kind == b"tRNS" or (kind == b"eXIf" and is_intact):
            yield png[start:end]
        start = end


def _needed_segments(jpeg: bytes) -> Iterator[bytes]:
    """Yield all segments except comments and application data (ITU-T T.81, annex B). JFIF and Adobe define colours."""
    start = len(_JPEG)
    while start + 4 <= len(jpeg) and jpeg[start] == 0xFF and jpeg[start + 1] != 0xDA:  # 0xDA: the pixels begin
        if jpeg[start + 1] == 0xFF:  # fill bytes
            start += 1
            continue
        marker, end = jpeg[start + 1], start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")
        data = jpeg[start + 4 : end]
        defines_colours = (data.startswith(b"JFIF\0") and len(data) >= 14) or (data[:5] == b"Adobe" and len(data) >= 12)
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_metadata or defines_colours or data.startswith(b"Exif\0\0"):
            yield jpeg[start:end]
        start = end
    yield jpeg[start:]
