"""Fetch one file over HTTP: to a temporary name beside its place, resumable, checked, then renamed.

A file that is there under its own name is whole. This module does not know what the file is for.
"""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from ddpmkit.errors import InputError

__all__ = ["download"]

_TIMEOUT = 30.0
"""Seconds of silence after which a server is given up."""
_CHUNK = 1 << 18
_PARTIAL = 206
_RANGE_NOT_SATISFIABLE = 416

Progress = Callable[[int, int | None], None]
"""Told how many bytes are here, and of how many (None: the server does not say)."""


def download(
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    progress: Progress = lambda _here, _total: None,
) -> Path:
    """Download `url` to `destination`, going on where an earlier attempt was cut off.

    Raises InputError when the server cannot be reached, refuses, breaks off early, or sends another SHA-256.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f"{destination.name}.part")
    again = [f"check the connection and give the same command again: it goes on from {partial}"]
    try:
        _transfer(url, partial, progress)
    except urllib.error.HTTPError as error:
        raise InputError(f"{url} cannot be had: the server answers {error.code} {error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{url} cannot be downloaded: {reason}.", remedies=again) from error
    if sha256 is not None and (found := _digest(partial)) != sha256:
        partial.unlink()
        raise InputError(
            f"what came from {url} is not the file that was expected: SHA-256 {found}, not {sha256}.",
            remedies=["give the same command again", "if that does not help, the file has changed at its source"],
        )
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    return partial.replace(destination)


def _transfer(url: str, partial: Path, progress: Progress) -> None:
    """Append to `partial` what is still missing of it. Raises OSError when the transfer ends early."""
    here = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "ddpmkit", "Range": f"bytes={here}-"})
    if here == 0:
        request.remove_header("Range")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != _RANGE_NOT_SATISFIABLE:
            raise
        # Nothing lies after what is here already, or the file has shrunk: only a fresh start can tell.
        partial.unlink()
        return _transfer(url, partial, progress)
    with response:
        resumed = response.status == _PARTIAL
        here = here if resumed else 0
        length = response.headers.get("Content-Length")
        total = here + int(length) if length is not None else None
        with partial.open("ab" if resumed else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                here += len(chunk)
                progress(here, total)
    if total is not None and here != total:
        raise ConnectionError(f"it broke off after {here:,} of {total:,} bytes")
    return None


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
