"""Images of a run folder as data URIs, so that a page needs no other files. Warns of files that are not images."""

import base64
import io
import logging
import warnings
from pathlib import Path

from PIL import Image

from ddpmkit.regular_file import open_regular

__all__ = ["embedded", "thumbnail"]

_THUMBNAIL = (320, 320)
"""The maximum size in pixels: twice the size on the page, for high-resolution screens."""
_LONGEST = 2**26
"""The maximum number of bytes of an image."""
_log = logging.getLogger(__name__)


def embedded(image: Path) -> str:
    """The PNG file, unchanged; empty if it cannot be used."""
    content = _content(image)
    return _data_uri("png", content) if content is not None and _decoded(image, content) is not None else ""


def thumbnail(image: Path) -> str:
    """A small JPEG of the image; empty if it cannot be used."""
    content = _content(image)
    small = _decoded(image, content) if content is not None else None
    if small is None:
        return ""
    small.thumbnail(_THUMBNAIL)
    encoded = io.BytesIO()
    small.save(encoded, format="JPEG", quality=85)
    return _data_uri("jpeg", encoded.getvalue())


def _content(image: Path) -> bytes | None:
    """The bytes of a regular file in a folder that is not a link: a page must not embed files from outside the run."""
    try:
        if image.parent.is_symlink():
            raise OSError(f"{image.parent} is a link")
        with open_regular(image, follow_links=False) as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise OSError(f"it is larger than {_LONGEST:,} bytes")
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("%s is skipped: %s.", image, error.strerror or error)
        return None
    return content


def _decoded(image: Path, content: bytes) -> Image.Image | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns of a decompression bomb
            with Image.open(io.BytesIO(content), formats=["PNG"]) as opened:
                return opened.convert("RGB")
    except Exception:  # damaged images raise many types, including struct.error and SyntaxError
        _log.warning("%s is skipped: it is not an intact PNG image.", image)
        return None


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()
