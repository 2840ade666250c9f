"""Fetch one file over HTTP: to a temporary name beside its place, resumable, checked, then renamed.

A file that is there under its own name is whole. Beside a part lies which version of the file it is a part of.
"""

import errno
import hashlib
import http.client
import json
import os
import urllib.error
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import IO

from ddpmkit.errors import InputError
from ddpmkit.file_lock import wait_for_turn
from ddpmkit.http_range import Version, ask

__all__ = ["download"]

_TIMEOUT = 30.0
"""Seconds of silence after which a server is given up."""
_CHUNK = 1 << 18
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Progress = Callable[[int, int | None], None]


def download(
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    progress: Progress = lambda _here, _total: None,
) -> Path:
    """Download `url` to `destination`; do nothing if the file is there.

    An attempt that was cut off is continued if the server still has the same version of the file, and starts anew if
    it does not say so. `progress` receives the number of bytes that are here, and of all (None: the server does not
    say). A process that finds another one at work waits for it. Raises InputError when the server cannot be reached,
    refuses, breaks off early, or sends another SHA-256, and when the disk is full.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f"{destination.name}.part")
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
        again = "give the same command again"
        if partial.exists():
            again += f": it continues {partial}"
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            full = f"{partial} cannot be written: {error.strerror}."
            raise InputError(full, remedies=[f"free some space and {again}"]) from error
        reason = getattr(error, "reason", None) or error
        reason = getattr(reason, "strerror", None) or reason
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
        _discard(partial)
        raise InputError(
            f"what came from {url} is not the file that was expected: SHA-256 {found}, not {sha256}.",
            remedies=["give the same command again", "if that does not help, the file has changed at its source"],
        )
    os.fsync(file.fileno())
    _version_file(partial).unlink(missing_ok=True)
    partial.replace(destination)


def _transfer(url: str, file: IO[bytes], partial: Path, progress: Progress) -> None:
    """Append what is still missing. Raises OSError, HTTPException or ValueError when that fails or ends early."""
    here, version = os.fstat(file.fileno()).st_size, _read_version(partial)
    if version is not None and version.url == url and here == version.total:
        return  # only its name was missing
    try:
        response, here, version = ask(url, here, version, _TIMEOUT)
        with response:
            if here == 0:
                file.truncate(0)
                _write_version(partial, version)
            # `read1` gives what has come; `read` would lose it when the server falls silent in the middle of a chunk.
            while chunk := response.read1(_CHUNK):
                file.write(chunk)
                file.flush()
                here += len(chunk)
                progress(here, version.total)
        if version.total is not None and here != version.total:
            raise ConnectionError(f"it broke off after {here:,} of {version.total:,} bytes")
    except BaseException:
        if here == 0 or version is None or not version.validator:  # nothing that a later attempt could continue
            _discard(partial)
        raise


def _discard(partial: Path) -> None:
    _version_file(partial).unlink(missing_ok=True)
    partial.unlink()


def _version_file(partial: Path) -> Path:
    """It goes before the part does, so that none is left behind: a part without it starts anew."""
    return partial.with_name(f"{partial.name}.json")


def _write_version(partial: Path, version: Version) -> None:
    _version_file(partial).write_text(json.dumps(version._asdict()), encoding="utf-8")


def _read_version(partial: Path) -> Version | None:
    """Which version of the file the part is of; None if that is not known."""
    try:
        facts = json.loads(_version_file(partial).read_text(encoding="utf-8"))
        url, validator, total = str(facts["url"]), str(facts["validator"]), facts["total"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Version(url, validator, total) if total is None or isinstance(total, int) else None


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
