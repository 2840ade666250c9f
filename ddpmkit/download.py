"""Fetch one file over HTTP: to a temporary name beside its place, resumable, checked, then renamed.

A file that is there under its own name is whole. This module does not know what the file is for.
"""

import errno
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import IO, NamedTuple

from ddpmkit.errors import InputError
from ddpmkit.turns import wait_for_turn

__all__ = ["download"]

_TIMEOUT = 30.0
"""Seconds of silence after which a server is given up."""
_CHUNK = 1 << 18
_NUMBER = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]+|\*)")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Progress = Callable[[int, int | None], None]


def download(
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    progress: Progress = lambda _here, _total: None,
) -> Path:
    """Download `url` to `destination`, going on where an earlier attempt was cut off; nothing when it is there.

    `progress` is told how many bytes are here, and of how many (None: the server does not say). A process that finds
    another one at it waits for that one. Raises InputError when the server cannot be reached, refuses, breaks off
    early, or sends another SHA-256, and when the disk is full.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f"{destination.name}.part")
    again = f"give the same command again: it goes on from {partial}"
    try:
        while not (destination.is_file() and (sha256 is None or _sha256(destination) == sha256)):
            with partial.open("ab") as file:
                wait_for_turn(file.fileno(), destination)
                if _is_still(file, partial):
                    _transfer(url, file, partial, progress)
                    _put_in_place(file, partial, destination, url, sha256)
    except urllib.error.HTTPError as error:
        error.close()
        later = ["try again later"] if error.code == HTTPStatus.TOO_MANY_REQUESTS or error.code >= 500 else []
        raise InputError(
            f"{url} cannot be had: the server answers {error.code} {error.reason}.", remedies=later
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            full = f"{partial} cannot be written: {error.strerror}."
            raise InputError(full, remedies=[f"free some space and {again}"]) from error
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"{url} cannot be downloaded: {reason}.", remedies=[f"check the connection and {again}"]
        ) from error
    return destination


def _is_still(file: IO[bytes], path: Path) -> bool:
    """Whether `path` is the open file: while this process waited, another may have renamed or removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _put_in_place(file: IO[bytes], partial: Path, destination: Path, url: str, sha256: str | None) -> None:
    """Check what came, have the disk hold it, and give it its name. Raises InputError when it is something else."""
    file.flush()
    if sha256 is not None and (found := _sha256(partial)) != sha256:
        partial.unlink()
        raise InputError(
            f"what came from {url} is not the file that was expected: SHA-256 {found}, not {sha256}.",
            remedies=["give the same command again", "if that does not help, the file has changed at its source"],
        )
    os.fsync(file.fileno())
    partial.replace(destination)


class _Extent(NamedTuple):
    """What part of the file an answer holds: from which byte on, and how long the whole is. None: it does not say."""

    start: int | None
    total: int | None


def _transfer(url: str, file: IO[bytes], partial: Path, progress: Progress) -> None:
    """Append what is still missing. Raises OSError, HTTPException or ValueError when that fails or ends early."""
    here = os.fstat(file.fileno()).st_size
    try:
        response, here, total = _ask_from(url, here)
    except BaseException:
        if here == 0:
            partial.unlink()
        raise
    with response:
        file.truncate(here)
        # `read1` gives what has come; `read` would lose it when the server falls silent in the middle of a chunk.
        while chunk := response.read1(_CHUNK):
            file.write(chunk)
            file.flush()
            here += len(chunk)
            progress(here, total)
    if total is not None and here != total:
        raise ConnectionError(f"it broke off after {here:,} of {total:,} bytes")


def _ask_from(url: str, here: int) -> tuple[http.client.HTTPResponse, int, int | None]:
    """The server's answer, the byte it begins at, and the length of the whole.

    It begins at `here`, or at 0 where the server cannot go on or sends another part than it was asked for.
    """
    if here:
        try:
            response = _ask(url, {"Range": f"bytes={here}-"})
        except urllib.error.HTTPError as error:
            # Nothing lies after what is here already, or the file has shrunk: only a fresh start can tell.
            if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            error.close()
        else:
            start, total = _extent(response)
            if start in (0, here):
                return response, start, total
            response.close()
    response = _ask(url, {})
    start, total = _extent(response)
    if start != 0:
        response.close()
        raise ConnectionError(f"the server answers {response.status}, and not with the whole file")
    return response, start, total


def _ask(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "ddpmkit", **headers})
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT)
    return response


def _extent(response: http.client.HTTPResponse) -> _Extent:
    """By what the server says, which need not be what it was asked for."""
    if response.status in (None, HTTPStatus.OK):  # None: a file:// address
        length = response.headers.get("Content-Length", "")
        return _Extent(0, int(length) if _NUMBER.fullmatch(length) else None)
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status != HTTPStatus.PARTIAL_CONTENT or match is None:
        return _Extent(None, None)
    return _Extent(int(match[1]), int(match[2]) if _NUMBER.fullmatch(match[2]) else None)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
